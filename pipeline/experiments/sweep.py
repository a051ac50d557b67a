"""Parameter sweeps as a Prefect flow: grid, random or Bayesian search, every trial an experiment of its own.

The saved experiments are a sweep's only state: the same sweep run again resumes, and a longer one reuses a shorter
one's trials.
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

from pipeline.experiments.clone import check_name, planned_overrides, resolve_commit, saved_experiments
from pipeline.experiments.flow import ExperimentSpec, add_arguments, check_parameters, experiment, metrics
from pipeline.experiments.ranking import TABLE, Trial, parallel_coordinates, rank, write
from pipeline.experiments.search_space import Dimension, grid, overrides_of, parse_space
from pipeline.processes.prefect_server import run_on_server
from pipeline.repro.events import emit_failure
from stages.metrics.catalogue import BY_KEY
from stages.reporting.pages import inline_png

FOLDER = Path("sweeps")
SEED_PARAMETER = "train.optimisation.seed"
EXPERIMENT = "experiment/experiment"
Method = Literal["grid", "random", "bayesian"]


class SweepIncomplete(Exception):
    """A sweep with failed experiments; the others are ranked, and the same sweep run again retries the failed ones."""


@flow(name="sweep", flow_run_name="sweep {name}", on_failure=[emit_failure], on_crashed=[emit_failure])
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
    """Run experiments over a space of parameters, `at_once` in parallel, and return their ranking by a metric.

    `space` has `section.key=a,b,c` and `section.key=low..high [log]`. Every combination runs with each of `seeds` and
    is ranked by its mean. Experiments are named NAME-000 and so on (NAME-000-seed7); saved ones are not run again. With
    `as_deployment` each runs as the deployment `experiment`, on any free worker.
    """
    folder = Path(root).resolve()
    check_name(name)
    search = _Search(folder, name, parse_space(space), method, trials, search_seed, maximise=_maximise(metric))
    rev = await asyncio.to_thread(resolve_commit, folder, rev)  # one commit for the whole sweep
    check_parameters(folder, ExperimentSpec(rev, preset, tuple(overrides_of(search.dimensions, search.example()))))
    slots = asyncio.Semaphore(at_once)

    async def run(experiment_name: str, overrides: list[str]) -> float:
        async with slots:
            return await _figure(folder, experiment_name, overrides, metric, preset, rev, as_deployment)

    async def work() -> None:
        while (trial := search.next()) is not None:
            overrides = overrides_of(search.dimensions, trial.values)
            experiments = {f"{trial.name}-seed{seed}": [*overrides, f"{SEED_PARAMETER}={seed}"] for seed in seeds}
            experiments = experiments or {trial.name: overrides}
            figures = await asyncio.gather(*(run(*each) for each in experiments.items()), return_exceptions=True)
            for experiment_name, figure in zip(experiments, figures, strict=True):
                if isinstance(figure, float):
                    trial.figures[experiment_name] = figure
                elif isinstance(figure, Exception):
                    trial.problems.append(str(figure))
                else:
                    raise figure
            search.tell(trial)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return await _save_ranking(folder / FOLDER / name, search, metric)


class _Search:
    """Iteration over the trials of a sweep; saved or interrupted experiments of the same names keep their values."""

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
            raise ValueError(f"pass the number of trials: a {method} search has no end")
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
        """Return one combination of the space."""
        return {each.name: json.dumps(each.choices[0]) if each.choices else each.low for each in self.dimensions}

    def next(self) -> Trial | None:
        """Return the next trial; None at the end."""
        number = len(self.trials)
        if number >= self._n_trials:
            return None
        name = f"{self._name}-{number:03d}"
        # Ask even when the values are known, so that later draws equal those of an uninterrupted search.
        self._asked[name] = self._study.ask(self._distributions)
        values = (
            self._grid[number]
            if self._grid
            else planned_values(self._root, name, self.dimensions) or dict(self._asked[name].params)
        )
        self.trials.append(Trial(name, values))
        return self.trials[-1]

    def tell(self, trial: Trial) -> None:
        """Report a finished trial to Optuna."""
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
    """Return the values of a saved or interrupted experiment, or of its first seed; None without one."""
    overrides = planned_overrides(root, name)
    if overrides is None:
        return None
    texts = dict(override.split("=", 1) for override in overrides)
    problem = f"experiment {name} exists and belongs to another search"
    if missing := [each.name for each in dimensions if each.name not in texts]:
        raise ValueError(f"{problem}: it does not set {', '.join(missing)}; choose another name")
    values = {each.name: texts[each.name] if each.choices else json.loads(texts[each.name]) for each in dimensions}
    if others := [each.name for each in dimensions if not each.holds(values[each.name])]:
        raise ValueError(f"{problem}: {', '.join(others)} has another value; choose another name")
    return values


async def _figure(
    root: Path, name: str, overrides: list[str], metric: str, preset: str | None, rev: str, as_deployment: bool
) -> float:
    """Return the metric of an experiment, running it unless it is saved."""
    if name in await asyncio.to_thread(saved_experiments, root):
        get_run_logger().info("%s is saved already", name)
    elif as_deployment:
        parameters = {"name": name, "overrides": overrides, "preset": preset, "rev": rev, "root": str(root)}
        run = await arun_deployment(EXPERIMENT, parameters=parameters, flow_run_name=f"experiment {name}")
        if (state := run.state) is None or not state.is_completed():
            raise RuntimeError(f"{name}: {state.name if state else 'no state'}: {state.message if state else ''}")
    else:
        await experiment(name, overrides, preset=preset, rev=rev, root=str(root))
    figures = await asyncio.to_thread(metrics, root, name)
    if metric not in figures:
        raise ValueError(f"{name} has no metric {metric}; it has {', '.join(figures)}")
    return float(figures[metric])


async def _save_ranking(folder: Path, search: _Search, metric: str) -> list[dict[str, Any]]:
    """Write the ranking as files and artifacts and return its rows. Raises SweepIncomplete if experiments failed."""
    ranking = rank(search.trials, metric, maximise=search.maximise)
    rows = [{str(key): value for key, value in row.items()} for row in ranking.to_dict("records")]
    picture = parallel_coordinates(search.dimensions, search.trials, metric, maximise=search.maximise)
    write(folder, ranking, picture)
    await acreate_table_artifact(rows, key="sweep-ranking", description=f"{folder.name} by {metric}; also in {folder}")
    if picture is not None:
        await acreate_image_artifact(
            inline_png(picture), key="sweep-parallel-coordinates", description=f"{folder.name}: values and {metric}"
        )
    get_run_logger().info("ranking: %s", folder / TABLE)
    if problems := [problem for trial in search.trials for problem in trial.problems]:
        raise SweepIncomplete(
            f"{len(problems)} experiments failed; run the same sweep again to retry them; {'; '.join(problems)}"
        )
    return rows


def _maximise(metric: str) -> bool:
    """Return whether higher is better. Raises ValueError for an unknown metric."""
    if metric not in BY_KEY:
        raise ValueError(f"{metric!r} is not a metric; choose one of {', '.join(BY_KEY)}")
    return BY_KEY[metric].higher_is_better


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sweep in the foreground."""
    parser = argparse.ArgumentParser(
        prog="voice-factory sweep",
        description="Run experiments over a space of parameters and rank them. "
        "The same command run again resumes the sweep.",
    )
    parser.add_argument("name", help="name of the sweep; its experiments are NAME-000 and so on")
    parser.add_argument(
        "space", nargs="+", metavar="section.key=VALUES", help="1,2,3 for a list, '1e-4..1e-2 log' for a range"
    )
    parser.add_argument(
        "--method", choices=("grid", "random", "bayesian"), default="grid", help="default: grid (every combination)"
    )
    parser.add_argument("--trials", type=int, help="number of combinations (default: the whole grid)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[], help=f"values of {SEED_PARAMETER}; every combination runs with each"
    )
    parser.add_argument("--metric", default="cer", help="metric to rank by (default: cer)")
    parser.add_argument("--at-once", type=int, default=1, help="experiments in parallel (default: 1)")
    add_arguments(parser)
    return run_on_server(sweep, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
