"""Sweeps: search spaces, methods, seeds and resuming, on a real Prefect server with real experiments."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from prefect.client.orchestration import get_client

from pipeline.experiments.clone import saved_experiments
from pipeline.experiments.ranking import Trial, parallel_coordinates, rank
from pipeline.experiments.search_space import Dimension, grid, overrides_of, parse_space
from pipeline.experiments.sweep import SweepIncomplete, sweep
from pipeline.params.overrides import OverrideError
from tests.pipeline.compare.comparable_project import ComparableProject

RATE = "train.optimisation.learning_rate"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{RATE}=1e-4..1e-2 log", Dimension(RATE, low=1e-4, high=1e-2, log=True)),
        ("a.b=1..5", Dimension("a.b", low=1, high=5)),
        ("a.b=-0.5..1.5", Dimension("a.b", low=-0.5, high=1.5)),
        ("a.b=1,2,3", Dimension("a.b", (1, 2, 3))),
        ("a.b=x", Dimension("a.b", ("x",))),
        ("a.b=[mos],[mos, dnsmos]", Dimension("a.b", (["mos"], ["mos", "dnsmos"]))),
        ("a.b='1..2'", Dimension("a.b", ("1..2",))),
    ],
)
def test_a_space_is_lists_and_ranges(text: str, expected: Dimension) -> None:
    assert parse_space([text]) == [expected]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ([], "needs parameters to vary"),
        (["a.b=1", "a.b=2"], "each named once"),
        (["a.b=2..1"], "needs a number and a larger one"),
        (["a.b=x..y"], "needs a number and a larger one"),
        (["a.b=0..1 log"], "starts above 0"),
        (["a.b=1,1"], "each once"),
        (["a.b="], "at least one value"),
        (["a.b=["], "not valid YAML"),
        (["a.b=" + "[" * 3000], "nested more than 10 deep"),
        (["a.b=&a [x], *a"], "without YAML's anchors and aliases"),
        (["a.b=" + "1" * 5000 + "..2"], "at most 4000 are allowed"),
        (["a.b=2001-99-99"], "not valid YAML"),
        (["=1,2"], "is not an override"),
        (["a.b"], "is not an override"),
    ],
)
def test_an_invalid_space_is_refused(space: list[str], message: str) -> None:
    with pytest.raises(OverrideError, match=message):
        parse_space(space)


def test_a_grid_is_every_combination_and_takes_no_ranges() -> None:
    dimensions = parse_space(["a.b=1,2", "a.c=x,y,z"])
    combinations = [overrides_of(dimensions, values) for values in grid(dimensions)]
    assert combinations == [[f"a.b={b}", f'a.c="{c}"'] for b in (1, 2) for c in "xyz"]
    with pytest.raises(OverrideError, match="a.b is a range; list values, or use --method random or bayesian"):
        grid(parse_space(["a.b=1..2", "a.c=x"]))
    values = ",".join(map(str, range(100)))
    with pytest.raises(OverrideError, match=r"1e\+20 combinations, at most 10000"):
        grid(parse_space([f"a.{name}={values}" for name in "bcdefghijk"]))


def trial(name: str, value: int, *figures: float, problem: str = "") -> Trial:
    return Trial(
        name,
        {"a.b": str(value)},
        {f"{name}-{number}": figure for number, figure in enumerate(figures)},
        [problem] if problem else [],
    )


def test_the_ranking_has_mean_and_spread_of_seeds_and_failures_last() -> None:
    trials = [trial("s-0", 1, 0.3, 0.5), trial("s-1", 2, problem="no disk"), trial("s-2", 3, 0.1)]
    rows = rank(trials, "cer", maximise=False).to_dict("records")
    assert [
        (row["rank"], row["a.b"], row["cer"], row["standard deviation of seeds"], row["failed"]) for row in rows
    ] == [(1, "3", 0.1, "-", "-"), (2, "1", 0.4, 0.14142, "-"), ("-", "2", "-", "-", "no disk")]
    assert rank(trials, "cer", maximise=True)["a.b"].tolist() == ["1", "3", "2"]


@pytest.mark.parametrize("figures", [(0.1, 0.2), (0.1, 0.1)])
def test_the_plot_is_drawn(figures: tuple[float, ...], tmp_path: Path) -> None:
    dimensions = [Dimension("a.b", (1, 2, 3)), Dimension("a.rate", low=1e-4, high=1e-2, log=True)]
    trials = [
        Trial(str(number), {"a.b": "2", "a.rate": 1e-3}, {"x": figure, "y": figure * 1.1})
        for number, figure in enumerate(figures)
    ]
    png = parallel_coordinates(dimensions, trials, "cer", maximise=False)
    assert png is not None
    (tmp_path / "picture.png").write_bytes(png)
    picture = matplotlib.image.imread(tmp_path / "picture.png")
    assert picture.shape[0] > 300 and len(set(map(tuple, picture.reshape(-1, picture.shape[2])[::7].tolist()))) > 10
    assert parallel_coordinates(dimensions, [], "cer", maximise=False) is None


@pytest.fixture(scope="module")
def project(finished_project: ComparableProject) -> ComparableProject:
    return finished_project


def run(project: ComparableProject, name: str, *space: str, **options: Any) -> list[dict[str, Any]]:
    return asyncio.run(sweep(name, space, root=str(project.root), **options))


@pytest.mark.slow
def test_a_grid_with_seeds_is_ranked_and_run_once(project: ComparableProject) -> None:
    rows = run(project, "grid", f"{RATE}=1e-3,4e-3", seeds=[1, 3], at_once=2)
    assert [row[RATE] for row in rows] == ["0.004", "0.001"]
    assert rows[0]["cer"] == pytest.approx(2e-4) and rows[0]["standard deviation of seeds"] == pytest.approx(1.4142e-4)
    assert rows[0]["experiments"] == "grid-001-seed1, grid-001-seed3"
    before = saved_experiments(project.root)
    assert {name for name in before if name.startswith("grid")} == {
        f"grid-{number:03d}-seed{seed}" for number in (0, 1) for seed in (1, 3)
    }
    assert run(project, "grid", f"{RATE}=1e-3,4e-3", seeds=[1, 3]) == rows and saved_experiments(project.root) == before
    with (project.root / "sweeps" / "grid" / "ranking.csv").open(encoding="utf-8") as stream:
        assert [line["cer"] for line in csv.DictReader(stream)] == [str(row["cer"]) for row in rows]
    with get_client(sync_client=True) as client:
        artifacts = {artifact.key: str(artifact.data) for artifact in client.read_artifacts()}
    assert json.loads(artifacts["sweep-ranking"])[0][RATE] == "0.004"
    assert artifacts["sweep-parallel-coordinates"].startswith("data:image/png;base64,")


@pytest.mark.slow
def test_a_resumed_search_makes_the_same_draws(project: ComparableProject) -> None:
    space = f"{RATE}=1e-4..1e-2 log"
    run(project, "search", space, method="bayesian", trials=1)
    longer = run(project, "search", space, method="bayesian", trials=3)
    fresh = run(project, "fresh", space, method="bayesian", trials=3)
    assert {row[RATE] for row in longer} == {row[RATE] for row in fresh} and len({row[RATE] for row in longer}) == 3
    assert [row["rank"] for row in longer] == [1, 2, 3]


@pytest.mark.slow
def test_failures_are_listed_and_the_same_sweep_retries_them(project: ComparableProject) -> None:
    bad = project.root / "recordings" / "bad.txt"
    run(project, "part", f"{RATE}=1e-3,4e-3", trials=1)
    bad.write_text("refused", encoding="utf-8")
    with pytest.raises(
        SweepIncomplete,
        match=r"1 experiments failed; run the same sweep again to retry them; part-001: stage corpus failed",
    ):
        run(project, "part", f"{RATE}=1e-3,4e-3")
    bad.unlink()
    assert [row["failed"] for row in run(project, "part", f"{RATE}=1e-3,4e-3")] == ["-", "-"]


@pytest.mark.slow
def test_another_search_of_the_same_name_is_refused(project: ComparableProject) -> None:
    run(project, "mine", f"{RATE}=1e-3..2e-3", method="random", trials=1)
    with pytest.raises(ValueError, match="mine-000 exists and belongs to another search: it does not set train.ranks"):
        run(project, "mine", "train.ranks=1..3", method="random", trials=1)
    with pytest.raises(ValueError, match="another value; choose another name"):
        run(project, "mine", f"{RATE}=3e-3..4e-3", method="random", trials=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ("train.nothing=1,2", {}, "train has no 'nothing'"),
        (f"{RATE}=1,2", {"metric": "beauty"}, "'beauty' is not a metric; choose one of cer"),
        (f"{RATE}=1..2", {"method": "random"}, "pass the number of trials"),
        (f"{RATE}=1..2", {}, "is a range"),
    ],
)
def test_an_invalid_search_is_refused_before_anything_runs(
    project: ComparableProject, space: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(project, "refused", space, **options)
