"""Experiments of a real git and DVC project against each other: numbers, verdicts, page, refusals."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dvc.api
import pyarrow.parquet as pq
import pytest
from dvc.repo import Repo

from pipeline.compare import compare as program
from pipeline.compare.compare import compare
from pipeline.compare.experiments import changed, fetch_run
from pipeline.processes.environment import child_environment, dvc_command
from stages.common.errors import PipelineError
from stages.metrics.bootstrap import Verdict
from stages.metrics.catalogue import BY_KEY
from stages.reporting.nested import flat
from tests.pipeline.compare.comparable_project import ComparableProject, evaluation, start_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ComparableProject:
    """Commits `bare` (no evaluation), `first`, `second` (more natural), `odd` (another test set); a second seed."""
    project = start_project(tmp_path_factory.mktemp("project") / "voice")
    project.git("add", "-A")
    project.git("commit", "-qm", "bare")
    project.git("tag", "bare")
    project.commit(evaluation(seed=1), "first")
    project.commit(evaluation(seed=2, mos=0.4), "second", steps=200)
    project.experiment(evaluation(seed=3, mos=0.5), "other-seed", steps=200)
    project.commit(evaluation(30, seed=2, mos=0.4)[4:], "odd")
    project.back_to("second")
    return project


@pytest.fixture(autouse=True)
def work_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOICE_WORK_DIR", str(tmp_path / "work"))


def compared(project: ComparableProject, out: Path, *names: str, **options: Any) -> dict[str, Any]:
    compare(project.root, names, out, **options)
    content: dict[str, Any] = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    return content


def test_the_numbers_are_those_of_dvc_metrics_and_params(project: ComparableProject, tmp_path: Path) -> None:
    content = compared(project, tmp_path / "out", "first", "second", "other-seed")
    for name in ("first", "second", "other-seed"):
        with contextlib.chdir(project.root):
            shown = dvc.api.metrics_show("metrics.json", "speed.json", rev=name)
        figures = {key: metric["experiments"][name]["value"] for key, metric in content["metrics"].items()}
        assert {"cer", "wer", "mos", "mcd_db", "real_time_factor"} <= figures.keys()
        assert figures == pytest.approx({key: shown[key] for key in figures})
    with contextlib.chdir(project.root), Repo() as repo:
        diff = repo.metrics.diff(a_rev="first", b_rev="second")["diff"]["metrics.json"]
    assert content["metrics"]["mos"]["minus first"]["second"]["difference"] == pytest.approx(diff["mos"]["diff"])
    assert content["params"] == {"train.steps": [100, 200, 200]}


def test_dvc_exp_diff_and_show_have_the_same_numbers(project: ComparableProject, tmp_path: Path) -> None:
    def dvc_json(*arguments: str) -> Any:
        return json.loads(
            subprocess.run(
                dvc_command("exp", *arguments, "--json"),
                cwd=project.root,
                env=child_environment(),
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )

    metrics = compared(project, tmp_path / "out", "second", "other-seed")["metrics"]
    ours = {key: metric["minus second"]["other-seed"]["difference"] for key, metric in metrics.items()}
    theirs: dict[str, float] = {}
    for changes in dvc_json("diff", "second", "other-seed")["metrics"].values():
        theirs |= {key: change["diff"] for key, change in changes.items() if key in ours}
    assert "mos" in theirs and theirs == pytest.approx({key: ours[key] for key in theirs})
    assert all(ours[key] == 0 for key in ours.keys() - theirs), "DVC names what differs only"
    shown = [
        run["revs"][0]["data"]["metrics"]["metrics.json"]["data"]
        for commit in dvc_json("show", "--rev", "second")
        for run in commit["experiments"] or []
        if run["name"] == "other-seed"
    ]
    assert [run["mos"] for run in shown] == [pytest.approx(metrics["mos"]["experiments"]["other-seed"]["value"])]


def test_what_is_better_is_said_and_what_is_alike_is_not(
    project: ComparableProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["first", "second", "--root", str(project.root), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out.splitlines()
    mos = BY_KEY["mos"].name
    assert re.match(
        rf"verdict: second against first, by \d+ metrics: better in 1 \({re.escape(mos)}\); the same in \d+ \(Char",
        shown[-1],
    )
    assert any(
        line.startswith("second is better than first: naturalness (predicted MOS) higher by 0.4") for line in shown
    )
    assert shown[-2] == f"page: {tmp_path / 'out' / 'index.html'}"


def test_the_workspace_is_an_experiment_too(project: ComparableProject, tmp_path: Path) -> None:
    content = compared(project, tmp_path / "out", "second", "workspace")
    mos = content["metrics"]["mos"]["minus second"]["workspace"]
    assert (mos["difference"], mos["low"], mos["high"], mos["outcome"]) == (0, 0, 0, Verdict.SAME)
    assert content["experiments"][1]["runs"] == [
        {"revision": "workspace", "commit": "", "step": 200, "n_utterances": 24}
    ]


def test_seeds_are_one_experiment_with_every_seeds_figure(
    project: ComparableProject, result: Path, tmp_path: Path
) -> None:
    content = compared(project, tmp_path / "out", "first", "second,other-seed")
    group = content["metrics"]["mos"]["experiments"]["second,other-seed"]
    assert group["value"] == pytest.approx(sum(group["seeds"]) / 2) and len(group["seeds"]) == 2
    alone = json.loads((result / "comparison.json").read_text(encoding="utf-8"))["metrics"]["mos"]["minus first"][
        "second"
    ]
    together = content["metrics"]["mos"]["minus first"]["second,other-seed"]
    assert together["high"] - together["low"] > alone["high"] - alone["low"]


def test_other_test_sets_are_restricted_to_what_is_common_and_that_is_said(
    project: ComparableProject, tmp_path: Path
) -> None:
    comparison = compare(project.root, ["first", "odd"], tmp_path / "out")
    assert {len(run.utterances) for experiment in comparison.experiments for run in experiment.runs} == {20}
    assert comparison.warnings[0].startswith("The test sets differ (first has 24, odd has 26): the 20 utterances")
    assert comparison.warnings[0] in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def result(project: ComparableProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of `second` against `first`, written over an earlier comparison."""
    folder = tmp_path_factory.mktemp("result")
    (folder / "out").mkdir()
    for name in ("comparison.json", "of-an-older-version.html"):
        (folder / "out" / name).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICE_WORK_DIR", str(folder / "work"))
        compare(project.root, ["first", "second"], folder / "out")
    assert list((folder / "work").iterdir()) == [], "nothing is left of what was fetched"
    yield folder / "out"


def test_every_utterances_values_are_in_the_table(result: Path) -> None:
    rows = pq.read_table(result / "differences.parquet").to_pylist()
    mos = [row for row in rows if row["metric"] == "mos" and row["experiment"] == "second"]
    expected = [
        after["mos"] - before["mos"]
        for before, after in zip(evaluation(seed=1), evaluation(seed=2, mos=0.4), strict=True)
    ]
    assert [row["difference"] for row in mos] == pytest.approx(expected)
    edits = [row["value"] for row in rows if row["metric"] == "cer" and row["experiment"] == "first"]
    assert edits == pytest.approx([row["character_edits"] / 25 for row in evaluation(seed=1)])


def test_the_page_stands_alone_and_names_what_it_shows(result: Path) -> None:
    page = (result / "index.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in result.iterdir()) == ["comparison.json", "differences.parquet", "index.html"]
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing is loaded from elsewhere"
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) == 4 and all(re.search(r'alt="[^"]{20,}"', image) for image in images)
    assert all('scope="' in header for header in re.findall(r"<th\b[^>]*>", page))
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(ids)
    for text in (
        "speaker anna",
        "language EN",
        "train.steps",
        "Worst of second: Character error rate",
        "do not name their evaluators",
    ):
        assert text in page


def test_listeners_ratings_are_in_the_page_the_numbers_and_the_verdicts(
    project: ComparableProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [
        {"utterance_id": f"u/{number:03d}", "a": "second", "b": "first", "preferred": "a"} for number in range(5)
    ]
    ratings = tmp_path / "eva.json"
    ratings.write_text(
        json.dumps({"kind": "voice-factory-ratings", "version": 1, "rater": "eva", "ab": answers}), encoding="utf-8"
    )
    assert (
        program.main(
            ["first", "second", "--root", str(project.root), "--out", str(tmp_path / "out"), "--ratings", str(ratings)]
        )
        == 0
    )
    assert "Listeners: second preferred to first: 100.0" in capsys.readouterr().out
    (rated,) = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))["ratings"]
    assert (rated["experiments"], rated["interval"]["value"], rated["n_ratings"]) == (["first", "second"], 1.0, 5)
    assert "second preferred to first" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_other_evaluators_are_shown_and_warned_of(tmp_path: Path) -> None:
    project = start_project(tmp_path / "voice")
    for tag, version in (("old", "1.2.1"), ("new", "1.3.0")):
        (project.root / "reports/evaluate").mkdir(parents=True, exist_ok=True)
        (project.root / "reports/evaluate/evaluators.json").write_text(
            json.dumps({"whisper": {"version": version}}), encoding="utf-8"
        )
        project.commit(evaluation(), tag)
    comparison = compare(project.root, ["old", "new"], tmp_path / "out")
    assert comparison.evaluators == {"whisper.version": ("1.2.1", "1.3.0")}
    assert "measured by different evaluators" in comparison.warnings[0]


def test_a_metric_that_one_lacks_is_named_and_not_compared(tmp_path: Path) -> None:
    project = start_project(tmp_path / "voice")
    project.commit(evaluation(), "with")
    project.commit(evaluation(mos=math.nan), "without")
    comparison = compare(project.root, ["with", "without"], tmp_path / "out")
    (mos,) = (result for result in comparison.results if result.metric.key == "mos")
    assert mos.contrasts == (None,) and mos.intervals[1] is None
    assert f"{BY_KEY['mos'].name} was not measured for without." in comparison.warnings


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["first"], "pass at least two different experiments"),
        (["first", "first"], "pass at least two different experiments"),
        (["first", "nowhere"], "'nowhere' is not a revision or experiment"),
        (["first", "bare"], "bare has no reports/evaluate; run `dvc repro`"),
        (["first", "second,second"], "repeats a revision"),
        (["first", "second,"], "repeats a revision or has an empty one"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    project: ComparableProject, tmp_path: Path, names: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([*names, "--root", str(project.root), "--out", str(tmp_path / "out")]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0] and not (tmp_path / "out").exists()


def test_files_that_are_not_in_the_cache_name_the_remedy(project: ComparableProject, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    project.git("clone", "-q", str(project.root), str(clone))
    with pytest.raises(PipelineError, match="first are not in DVC's cache.*dvc fetch"):
        compare(clone, ["first", "second"], tmp_path / "out")
    shutil.copytree(project.root / ".dvc" / "cache", clone / ".dvc" / "cache")
    assert fetch_run(clone, "first", tmp_path / "again").step == 100


def test_a_folder_that_is_no_comparison_is_never_replaced(project: ComparableProject, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(PipelineError, match="is not an earlier comparison"):
        compare(project.root, ["first", "second"], tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_no_common_utterance_is_refused(tmp_path: Path) -> None:
    project = start_project(tmp_path / "voice")
    project.commit(evaluation(12), "a")
    project.commit([{**row, "text": "Another text."} for row in evaluation(12)], "b")
    with pytest.raises(PipelineError, match="the test sets have no utterance in common"):
        compare(project.root, ["a", "b"], tmp_path / "out")


def test_changes_are_found_in_nested_values() -> None:
    before, after = (
        flat({"train": {"steps": 1, "model": {"width": 8}}}),
        flat({"train": {"steps": 2, "model": {"width": 8, "depth": 3}}}),
    )
    assert changed([before, after]) == {"train.steps": (1, 2), "train.model.depth": (None, 3)}
