"""Searches over parameters as a Prefect flow: a grid, random or Bayesian, every try an experiment of its own.

What is kept of a sweep are its experiments: run again, it goes on where it stopped, and a longer one begins with the
shorter one's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from prefect import flow, get_run_logger
from prefect.artifacts import acreate_image_artifact, acreate_table_artifact
from prefect.deployments import arun_deployment

from pipeline.experiments import ranking as sweep_result
from pipeline.experiments.clone import check_name, planned_overrides, resolve, saved_experiments
from pipeline.experiments.flow import Plan, add_arguments, check_parameters, experiment, metrics
from pipeline.experiments.ranking import Trial
from pipeline.experiments.search_space import Dimension, grid, overrides_of, parse_space
from pipeline.processes.prefect_server import run_on_server
from pipeline.repro.events import tell_failure
from stages.metrics.catalogue import METRICS
from stages.reporting.pages import inline_png

FOLDER = Path("sweeps")
SEED_PARAMETER = "train.optimisation.seed"
EXPERIMENT = "experiment/experiment"
Method = Literal["grid", "random", "bayesian"]


class SweepIncomplete(Exception):
    """Experiments of a sweep failed; the rest is ranked, and the same sweep run again goes on."""


@flow(name="sweep", flow_run_name="sweep {name}", on_failure=[tell_failure], on_crashed=[tell_failure])
async def sweep(
    name: str,
    space: Sequence[str],
    method: Method = "grid",
    trials: int | None = None,
    seeds: Sequence[int] = (),
    metric: str = "cer",
    at_once: int = 1,
    preset: str | None = None,
    rev: str = "HEAD",
    root: str = ".",
    as_deployment: bool = False,
    search_seed: int = 0,
) -> list[dict[str, Any]]:
    """Run experiments over a space of parameters, `at_once` side by side, and rank them by a metric; returns the
    ranking.

    `space` has `section.key=a,b,c` and `section.key=low..high [log]`. Every combination runs with each of `seeds`, and
    the mean is
    what counts. Experiments are called NAME-000 and so on (NAME-000-seed7); what is saved is not run again. With
    `as_deployment`
    each is a run of the deployment of `experiment`, on whichever worker is free.
    """
    folder = Path(root).resolve()
    check_name(name)
    search = _Search(folder, name, parse_space(space), method, trials, search_seed, maximise=_maximise(metric))
    rev = await asyncio.to_thread(resolve, folder, rev)  # of the whole sweep, whatever is committed meanwhile
    check_parameters(folder, Plan(rev, preset, tuple(overrides_of(search.dimensions, search.example()))))
    slots = asyncio.Semaphore(at_once)

    async def run(experiment_name: str, overrides: list[str]) -> float:
        async with slots:
            return await _figure(folder, experiment_name, overrides, metric, preset, rev, as_deployment)

    async def work() -> None:
        while (trial := search.next()) is not None:
            overrides = overrides_of(search.dimensions, trial.values)
            plans = {f"{trial.name}-seed{seed}": [*overrides, f"{SEED_PARAMETER}={seed}"] for seed in seeds} or {
                trial.name: overrides
            }
            found = await asyncio.gather(*(run(*plan) for plan in plans.items()), return_exceptions=True)
            for own, figure in zip(plans, found, strict=True):
                if isinstance(figure, float):
                    trial.figures[own] = figure
                elif isinstance(figure, Exception):
                    trial.problems.append(str(figure))
                else:
                    raise figure
            search.tell(trial)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return await _rank(folder / FOLDER / name, search, metric)


class _Search:
    """Which combinations of values come next; those of saved or interrupted experiments of the same names are taken as
    they were.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        dimensions: list[Dimension],
        method: Method,
        n_trials: int | None,
        seed: int,
        *,
        maximise: bool,
    ) -> None:
        self.dimensions = dimensions
        self.maximise = maximise
        self.trials: list[Trial] = []
        self._grid = grid(dimensions) if method == "grid" else None
        if self._grid is None and n_trials is None:
            raise ValueError(f"say how many trials: a {method} search has no end of its own")
        self._n_trials = (
            len(self._grid or ()) if n_trials is None else min(n_trials, len(self._grid)) if self._grid else n_trials
        )
        self._root, self._name = root, name
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = (
            optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True)
            if method == "bayesian"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        self._study = optuna.create_study(direction="maximize" if maximise else "minimize", sampler=sampler)
        self._distributions = {dimension.name: dimension.distribution for dimension in dimensions}
        self._asked: dict[str, optuna.trial.Trial] = {}

    def example(self) -> dict[str, Any]:
        """Return some combination."""
        return {one.name: json.dumps(one.choices[0]) if one.choices else one.low for one in self.dimensions}

    def next(self) -> Trial | None:
        """Return the next combination; None at the end."""
        number = len(self.trials)
        if number >= self._n_trials:
            return None
        name = f"{self._name}-{number:03d}"
        # Asked even where the values are known, so that the draws after it are those of an uninterrupted search.
        self._asked[name] = self._study.ask(self._distributions)
        values = (
            self._grid[number]
            if self._grid
            else planned_values(self._root, name, self.dimensions) or dict(self._asked[name].params)
        )
        self.trials.append(Trial(name, values))
        return self.trials[-1]

    def tell(self, trial: Trial) -> None:
        """Take in what a combination came to."""
        asked = self._asked[trial.name]
        if math.isnan(trial.mean) or asked.params != trial.values:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
            if not math.isnan(trial.mean) and not self._grid:
                self._study.add_trial(
                    optuna.trial.create_trial(params=trial.values, distributions=self._distributions, value=trial.mean)
                )
        else:
            self._study.tell(asked, trial.mean)


def planned_values(root: Path, name: str, dimensions: Sequence[Dimension]) -> dict[str, Any] | None:
    """Return the values of an experiment, or of one of its seeds, that is saved or was interrupted; None where there is
    none.
    """
    overrides = planned_overrides(root, name)
    if overrides is None:
        return None
    found = dict(override.split("=", 1) for override in overrides)
    if missing := [dimension.name for dimension in dimensions if dimension.name not in found]:
        raise ValueError(
            f"the experiment {name} exists and is of another search: it does not set {', '.join(missing)}; choose another name"
        )
    values = {one.name: found[one.name] if one.choices else json.loads(found[one.name]) for one in dimensions}
    if others := [one.name for one in dimensions if not one.holds(values[one.name])]:
        raise ValueError(
            f"the experiment {name} exists and is of another search: {', '.join(others)} has another value; choose another name"
        )
    return values


async def _figure(
    root: Path, name: str, overrides: list[str], metric: str, preset: str | None, rev: str, as_deployment: bool
) -> float:
    """Return the metric of an experiment, which is run unless it is saved already."""
    if name in await asyncio.to_thread(saved_experiments, root):
        get_run_logger().info("%s is there already", name)
    elif as_deployment:
        parameters = {"name": name, "overrides": overrides, "preset": preset, "rev": rev, "root": str(root)}
        run = await arun_deployment(EXPERIMENT, parameters=parameters, flow_run_name=f"experiment {name}")
        if run.state is None or not run.state.is_completed():
            raise RuntimeError(
                f"{name}: {run.state.name if run.state else 'no state'}: {run.state.message if run.state else ''}"
            )
    else:
        await experiment(name, overrides, preset=preset, rev=rev, root=str(root))
    found = await asyncio.to_thread(metrics, root, name)
    if metric not in found:
        raise ValueError(f"{name} has no metric {metric}; there are {', '.join(found)}")
    return float(found[metric])


async def _rank(folder: Path, search: _Search, metric: str) -> list[dict[str, Any]]:
    """Leave the ranking as files and artifacts and return it; raises SweepIncomplete where experiments failed."""
    rows = sweep_result.table(sweep_result.rank(search.trials, maximise=search.maximise), metric)
    picture = sweep_result.parallel_coordinates(search.dimensions, search.trials, metric, maximise=search.maximise)
    sweep_result.write(folder, rows, picture)
    await acreate_table_artifact(rows, key="sweep-ranking", description=f"{folder.name}, by {metric}; also in {folder}")
    if picture is not None:
        await acreate_image_artifact(
            inline_png(picture), key="sweep-parallel-coordinates", description=f"{folder.name}: values and {metric}"
        )
    get_run_logger().info("ranking: %s", folder / sweep_result.TABLE)
    if problems := [problem for trial in search.trials for problem in trial.problems]:
        raise SweepIncomplete(
            f"{len(problems)} experiments failed, the same sweep run again goes on; {'; '.join(problems)}"
        )
    return rows


def _maximise(metric: str) -> bool:
    """Return whether more of a metric is better; raises ValueError for an unknown one."""
    directions = {known.key: known.higher_is_better for known in METRICS}
    if metric not in directions:
        raise ValueError(f"{metric!r} is no metric to rank by; there are {', '.join(directions)}")
    return directions[metric]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sweep in the foreground."""
    parser = argparse.ArgumentParser(
        prog="voice-factory sweep",
        description="Run experiments over a space of parameters and rank "
        "them. The same command again goes on where it stopped.",
    )
    parser.add_argument("name", help="the sweep's name; its experiments are NAME-000 and so on")
    parser.add_argument(
        "space", nargs="+", metavar="section.key=VALUES", help="1,2,3 for some values, '1e-4..1e-2 log' for a range"
    )
    parser.add_argument(
        "--method", choices=("grid", "random", "bayesian"), default="grid", help="default: grid, every combination"
    )
    parser.add_argument("--trials", type=int, help="how many combinations (default: the whole grid)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[], help=f"values of {SEED_PARAMETER}: every combination runs with each"
    )
    parser.add_argument("--metric", default="cer", help="what ranks them (default: cer)")
    parser.add_argument("--at-once", type=int, default=1, help="experiments side by side (default: 1)")
    add_arguments(parser)
    return run_on_server(sweep, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
