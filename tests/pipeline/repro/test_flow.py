"""The repro flow beside `dvc repro`, watching, and what is told of a run, on a real Prefect server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import yaml
from dvc.repo import Repo
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

from pipeline.processes.prefect_server import existing_or_local_server, running_server, server
from pipeline.repro import events
from pipeline.repro.dag import changed_stages
from pipeline.repro.events import METRIC_WORSE, accepted_version, emit_regression
from pipeline.repro.flow import StageFailed, repro
from pipeline.repro.watch import watch
from pipeline.setup import ui_shot
from tests.pipeline.compare.comparable_project import ComparableProject, evaluation, start_project
from tests.pipeline.tiny_project import start_tiny_project

ALL = {"corpus", "resample", "train", "evaluate"}


@pytest.fixture(scope="module", autouse=True)
def client(prefect: Path) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def project(tmp_path: Path) -> ComparableProject:
    return start_tiny_project(tmp_path / "project")


def run(project: ComparableProject) -> dict[str, str]:
    return asyncio.run(repro(str(project.root)))


def test_the_flow_leaves_the_lock_that_dvc_leaves(project: ComparableProject, client: SyncPrefectClient) -> None:
    other = project.root.with_name("other")
    shutil.copytree(project.root, other)
    with contextlib.chdir(other), Repo() as repo:
        repo.reproduce()
    assert run(project) == dict.fromkeys(("corpus", "resample", "train", "evaluate"), "Completed")
    assert (project.root / "dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()
    assert changed_stages(project.root) == set()
    assert run(project) == dict.fromkeys(("corpus", "resample", "train", "evaluate"), "UpToDate")
    summary = next(artifact for artifact in client.read_artifacts() if artifact.key == "repro-summary")
    assert "## Metrics" in str(summary.data) and "| cer |" in str(summary.data)


def test_a_server_that_runs_already_is_used_and_not_started_twice(
    prefect: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with existing_or_local_server(prefect) as api:
        assert (api.address, api.secret) == (PREFECT_API_URL.value(), PREFECT_API_AUTH_STRING.value())
    with pytest.raises(RuntimeError, match="is already running: http://127.0.0.1:"), server(prefect):
        pass
    (prefect / "stale").mkdir()
    (prefect / "stale" / "address").write_text("http://127.0.0.1:9/api", encoding="utf-8")
    assert running_server(prefect / "stale") is None and running_server(prefect / "nothing") is None


@pytest.mark.slow
def test_the_ui_shows_the_run_in_a_picture(
    project: ComparableProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    run(project)
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", PREFECT_API_AUTH_STRING.value())
    monkeypatch.setattr("sys.argv", ["ui_shot", "--out", str(tmp_path)])
    assert ui_shot.main() == 0
    picture = matplotlib.image.imread(tmp_path / ui_shot.PICTURE)[..., :3]
    green = (picture[..., 1] > 0.5) & (picture[..., 0] < 0.3) & (picture[..., 2] < 0.4)
    assert green.sum() > 2000, "no bars of completed stages"


@pytest.mark.slow
def test_only_what_can_be_helped_is_tried_again(
    project: ComparableProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTEMPTS", str(tmp_path / "attempts"))
    work = project.root / "work.py"
    whole = work.read_text(encoding="utf-8")
    work.write_text(
        whole.replace('    settings = params["train"]', '    os.kill(os.getpid(), 9)\n    settings = params["train"]'),
        encoding="utf-8",
    )
    with pytest.raises(StageFailed, match=r"^stage train failed: .*; not started: evaluate$"):
        run(project)
    assert len((tmp_path / "attempts").read_text().splitlines()) == 2
    work.write_text(
        whole.replace('    settings = params["train"]', '    sys.exit("error: train: no")\n    settings = params'),
        encoding="utf-8",
    )
    with pytest.raises(StageFailed, match=r"^stage train failed: train: no; not started: evaluate$"):
        run(project)
    assert len((tmp_path / "attempts").read_text().splitlines()) == 3


@pytest.mark.slow
def test_new_recordings_start_a_run_once_they_are_whole(project: ComparableProject) -> None:
    def look(quiet_seconds: float = 0.0) -> str:
        state = asyncio.run(watch(str(project.root), quiet_seconds, as_deployment=False, return_state=True))
        return str(state.name)

    def texts() -> int:
        return int(yaml.safe_load((project.root / "metrics.json").read_text(encoding="utf-8"))["texts"])

    assert (look(), look(), texts()) == ("Completed", "UpToDate", 1)
    new = project.root / "recordings" / "two words.txt"
    new.write_text("two", encoding="utf-8")
    assert look(quiet_seconds=30.0) == "TooNew" and texts() == 1
    assert (look(), texts(), look()) == ("Completed", 2, "UpToDate")
    new.write_text("refused", encoding="utf-8")
    assert (look(), look()) == ("Failed", "UpToDate"), (
        "recordings that cannot be used start one run, not one at every look"
    )
    new.unlink()
    assert (look(), texts()) == ("Completed", 1)
    os.utime(project.root / "recordings" / "one.txt", (time.time() - 60, time.time() - 60))
    assert look() == "UpToDate", "a new date of an old recording started a run"


def test_a_voice_worse_than_the_accepted_one_raises_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_WORK_DIR", str(tmp_path / "work"))
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda event, **rest: told.append({"event": event, **rest}))
    project = start_project(tmp_path / "voice")
    project.evaluate(evaluation())
    assert accepted_version(project.root) is None and emit_regression(project.root) == []
    project.commit(evaluation(seed=1), "first")
    for tag in ("voice@v1.0.0", "voice@v1.10.0", "voice@v1.9.0", "voice@none", "other@v3.0.0"):
        project.git("tag", tag)
    assert accepted_version(project.root) == "voice@v1.10.0"
    project.evaluate(evaluation(seed=2, mos=0.4))
    assert emit_regression(project.root) == [] and told == []
    project.evaluate(evaluation(seed=3, mos=-0.4))
    (sentence,) = emit_regression(project.root)
    assert "naturalness" in sentence.lower()
    assert [(each["event"], each["payload"]["accepted"], each["payload"]["metrics"]) for each in told] == [
        (METRIC_WORSE, "voice@v1.10.0", ["mos"])
    ]
