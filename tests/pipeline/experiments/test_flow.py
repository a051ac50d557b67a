"""Experiments in their own clones, on a real Prefect server and real git and DVC repositories."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from dvc.repo import Repo
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

from pipeline.experiments import clone
from pipeline.experiments.clone import FOLDER, ExperimentError, check_name, reserve, saved_experiments
from pipeline.experiments.flow import ExperimentFailed, experiment, metrics
from pipeline.params.overrides import OverrideError
from tests.pipeline.compare.comparable_project import ComparableProject


@pytest.fixture(scope="module")
def project(finished_project: ComparableProject) -> ComparableProject:
    return finished_project


def run(project: ComparableProject, name: str, *overrides: str, **options: Any) -> dict[str, float]:
    return asyncio.run(experiment(name, overrides, root=str(project.root), **options))


def shown(project: ComparableProject) -> dict[str, tuple[float, float]]:
    """Return learning rate and cer of each experiment, as `dvc exp show` has them."""
    with Repo(str(project.root)) as repo:
        states = [
            found.revs[0] for state in repo.experiments.show(all_commits=True) for found in state.experiments or []
        ]
    return {
        state.name: (
            state.data.params["params.yaml"]["data"]["train"]["optimisation"]["learning_rate"],
            state.data.metrics["metrics.json"]["data"]["cer"],
        )
        for state in states
    }


def params_of(project: ComparableProject, name: str) -> dict[str, Any]:
    """Return the parameters of a saved experiment."""
    with (
        Repo(str(project.root)) as repo,
        repo.scm.get_fs(saved_experiments(project.root)[name]).open("/params.yaml") as stream,
    ):
        params: dict[str, Any] = yaml.safe_load(stream)
    return params


def state_of(project: ComparableProject) -> list[bytes | str]:
    """Return what an experiment must not touch."""
    files = [path.read_bytes() for path in sorted(project.root.iterdir()) if path.is_file()]
    commands = (["git", "status", "--porcelain"], ["git", "rev-parse", "HEAD"], ["git", "stash", "list"])
    return files + [
        subprocess.run(command, cwd=project.root, check=True, capture_output=True, text=True).stdout
        for command in commands
    ]


def test_an_experiment_is_saved_in_the_project_and_changes_nothing_else(project: ComparableProject) -> None:
    before = state_of(project)
    note = "$(touch pwned); `touch pwned` && touch pwned | ' \" \\"
    overrides = ("train.optimisation.learning_rate=1e-5", f"corpus.source_note={json.dumps(note)}")
    found = run(project, "fast", *overrides)
    assert found == pytest.approx({"cer": 0.0399 + 0.0052, "mos": 3.00001, "texts": 1})
    assert shown(project)["fast"] == pytest.approx((1e-5, found["cer"]))
    assert metrics(project.root, "fast") == found
    assert state_of(project) == before and not list((project.root / FOLDER).iterdir())
    with get_client(sync_client=True) as client:
        own = FlowRunFilter(name=FlowRunFilterName(any_=["repro fast"]))  # other tests have runs on this server too
        runs = {run.name: str(run.state_name) for run in client.read_task_runs(flow_run_filter=own)}
        tables = [
            json.loads(str(artifact.data))
            for artifact in client.read_artifacts()
            if artifact.key == "experiment-metrics" and str(artifact.description).startswith("fast:")
        ]
    stages = {name: state for name, state in runs.items() if "repro" not in name}
    assert stages == {"corpus": "Completed", "resample": "UpToDate", "train": "Completed", "evaluate": "Completed"}
    assert {row["metric"]: row["value"] for row in tables[0]} == found
    assert params_of(project, "fast")["corpus"]["source_note"] == note, "shell syntax in a value is a value"
    assert not list(project.root.rglob("pwned"))


@pytest.mark.slow
def test_experiments_side_by_side_do_not_mix(project: ComparableProject) -> None:
    rates = {f"rate-{number}": number / 1000 for number in range(1, 5)}

    async def all_of_them() -> list[dict[str, float]]:
        return await asyncio.gather(
            *(
                experiment(name, [f"train.optimisation.learning_rate={rate}"], root=str(project.root))
                for name, rate in rates.items()
            )
        )

    expected = {name: (rate, abs(rate - 0.004) * 10 + 0.0052) for name, rate in rates.items()}
    for found, (_, cer) in zip(asyncio.run(all_of_them()), expected.values(), strict=True):
        assert found["cer"] == pytest.approx(cer)
    saved = shown(project)
    assert {name: saved[name] for name in rates} == {name: pytest.approx(values) for name, values in expected.items()}


@pytest.mark.slow
def test_what_fails_is_kept_and_the_same_run_goes_on_there(
    project: ComparableProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = project.root / "recordings"
    (recordings / "bad.txt").write_text("refused", encoding="utf-8")
    with pytest.raises(
        ExperimentFailed,
        match=r"^broken: stage corpus failed: corpus: recordings/bad.txt is no recording; delete it; "
        r"not started: train, evaluate \(clone kept in .*/broken/project; run the same experiment again to resume\)",
    ):
        run(project, "broken", "split.salt='9'")
    kept = project.root / FOLDER / "broken" / "project"
    assert yaml.safe_load((kept / "params.yaml").read_text(encoding="utf-8"))["split"]["salt"] == "9"
    with pytest.raises(
        ExperimentError,
        match="has an interrupted run of that name with other parameters; delete it or choose another name",
    ):
        run(project, "broken", "split.salt='8'")
    (recordings / "bad.txt").unlink()
    assert run(project, "broken", "split.salt='9'")["texts"] == 1
    assert not kept.exists()


@pytest.mark.slow
def test_nothing_is_overwritten(project: ComparableProject) -> None:
    run(project, "once")
    with pytest.raises(ExperimentError, match="experiment once exists"):
        run(project, "once", "split.salt='2'")
    with reserve(project.root, "busy"), pytest.raises(ExperimentError, match="experiment busy is already running"):
        run(project, "busy")


NO_NAMES = (
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "-x",
    "--help",
    "a b",
    "a;b",
    "$(touch x)",
    "a..b",
    "a.lock",
    "a.",
    "x" * 81,
    "ü",
    "a\n",
)


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_are_no_names(name: str) -> None:
    with pytest.raises(ExperimentError, match="is not a valid experiment name"):
        check_name(name)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"overrides": ["split.salt=x; touch pwned", "train.nothing=1"]}, OverrideError, "train has no 'nothing'"),
        ({"overrides": ["$(touch pwned)"]}, OverrideError, "is not an override"),
        ({"preset": "$(touch pwned)"}, OverrideError, "unknown preset"),
        ({"rev": "--upload-pack=touch pwned"}, ExperimentError, "is not a revision"),
        ({"rev": "nowhere"}, ExperimentError, "is not a revision"),
        ({"name": "x;touch pwned"}, ExperimentError, "is not a valid experiment name"),
    ],
)
def test_what_cannot_be_is_refused_before_any_process_starts(
    project: ComparableProject,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[object] = []

    async def start(*command: object, **_: object) -> None:
        started.append(command)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    with pytest.raises(error, match=message):
        asyncio.run(experiment(**{"name": "refused", "root": str(project.root), **options}))
    assert not started and not list(project.root.rglob("pwned")) and not (project.root / FOLDER / "refused").exists()


@pytest.mark.slow
def test_a_preset_and_an_older_commit(project: ComparableProject) -> None:
    project.git("tag", "before")
    work = (project.root / "work.py").read_text(encoding="utf-8")
    (project.root / "work.py").write_text(work.replace("3.0 + rate", "4.0 + rate"), encoding="utf-8")
    project.git("commit", "-qam", "Kinder ears")
    found = run(project, "older", preset="smoke", rev="before")
    assert found["mos"] < 4 <= run(project, "newer", preset="smoke")["mos"]
    assert params_of(project, "older")["preset"] == "smoke"


@pytest.mark.slow
def test_uncommitted_changes_are_named_and_left_out(
    project: ComparableProject, caplog: pytest.LogCaptureFixture
) -> None:
    work = project.root / "work.py"
    before = work.read_text(encoding="utf-8")
    work.write_text("raise SystemExit(1)", encoding="utf-8")
    try:
        run(project, "clean")
    finally:
        work.write_text(before, encoding="utf-8")
    assert "uncommitted changes are not part of the experiment: work.py" in caplog.text


@pytest.mark.slow
def test_credentials_stay_out_of_what_others_see(project: ComparableProject, prefect: Path) -> None:
    secret = "wJalrXUtnFEMIexamplekey"
    local = project.root / ".dvc" / "config.local"
    local.write_text(
        f"['remote \"cloud\"']\n    url = s3://nowhere/voices\n    secret_access_key = {secret}\n", encoding="utf-8"
    )
    try:
        found: list[str] = []
        configure = clone._configure

        def look(root: Path, folder: Path) -> None:
            configure(root, folder)
            path = folder / ".dvc" / "config.local"
            found.append(f"{path.stat().st_mode & 0o777:o} {secret in path.read_text(encoding='utf-8')}")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clone, "_configure", look)
            run(project, "private")
    finally:
        local.unlink()
    assert found == ["600 True"], "the clone has the remote's credentials, for its user alone"
    kept = [
        path.read_bytes() for folder in (prefect, project.root / ".git") for path in folder.rglob("*") if path.is_file()
    ]
    assert len(kept) > 20 and not any(secret.encode() in content for content in kept)


def test_the_server_listens_on_this_machine_alone(prefect: Path) -> None:
    mine = psutil.Process().children(recursive=True)
    listening = {
        connection.laddr.ip
        for process in mine
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
