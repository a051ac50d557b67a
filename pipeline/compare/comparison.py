"""Compute a comparison: every metric of every experiment, and its difference from the first one, with intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.compare.experiments import Experiment, Run, changed
from pipeline.compare.ratings import Rating, RatingResult, rating_results
from stages.common.errors import PipelineError
from stages.common.progress import progress_bar
from stages.metrics.bootstrap import (
    Difference,
    Interval,
    Verdict,
    confidence_interval,
    paired_difference,
    verdict_of,
    verdict_sentence,
)
from stages.metrics.catalogue import METRICS, Metric

BREAKDOWN_KEYS = ("cer", "mos", "mcd_db")  # by speaker and language: intelligibility, naturalness, similarity
MACHINE_DEPENDENT = ("real_time_factor",)  # shown, but not part of a verdict: it depends on the machine's load
N_WORST = 5


@dataclass(frozen=True)
class Contrast:
    """An experiment against the first one by one metric."""

    difference: Difference
    outcome: Verdict
    sentence: str


@dataclass(frozen=True)
class MetricResult:
    """One metric: each experiment's figure, each seed's, the recordings' (NaN without), and contrasts with the first.

    The interval and the contrast of an experiment without that metric are None.
    """

    metric: Metric
    intervals: tuple[Interval | None, ...]
    seeds: tuple[tuple[float, ...], ...]
    recording: float
    contrasts: tuple[Contrast | None, ...]  # of the second experiment, the third, …


@dataclass(frozen=True)
class GroupResult:
    """The metrics of a speaker's or a language's utterances."""

    kind: str
    name: str
    n_utterances: int
    results: tuple[MetricResult, ...]


@dataclass(frozen=True)
class Comparison:
    """Content of the page and the files.

    `experiments` hold the common utterances only, in one order. `utterances` has a row per metric and utterance_id and
    a column per experiment: the mean over its seeds, NaN without a value. `params` and `evaluators` are those that
    differ, with a value per run.
    """

    experiments: tuple[Experiment, ...]
    results: tuple[MetricResult, ...]
    groups: tuple[GroupResult, ...]
    utterances: pd.DataFrame
    ratings: tuple[RatingResult, ...]
    params: Mapping[str, tuple[Any, ...]]
    evaluators: Mapping[str, tuple[Any, ...]]
    warnings: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Return the experiments' names."""
        return [experiment.name for experiment in self.experiments]

    @property
    def runs(self) -> list[Run]:
        """Return the runs of all experiments."""
        return _runs(self.experiments)

    @property
    def verdicts(self) -> list[str]:
        """Return a line for every experiment but the first: the metrics in which it is better, worse or neither."""
        return [self._verdict(number) for number in range(len(self.experiments) - 1)]

    def _verdict(self, number: int) -> str:
        first, other = self.names[0], self.names[number + 1]
        metrics: dict[Verdict, list[str]] = {outcome: [] for outcome in Verdict}
        for result in self.results:
            if (contrast := result.contrasts[number]) is not None and result.metric.key not in MACHINE_DEPENDENT:
                metrics[contrast.outcome].append(result.metric.name)
        words = {
            Verdict.BETTER: "better in",
            Verdict.WORSE: "worse in",
            Verdict.UNCLEAR: "no difference could be shown in",
            Verdict.SAME: "the same in",
            Verdict.TOO_FEW: "too few utterances for",
        }
        parts = [f"{words[outcome]} {len(names)} ({', '.join(names)})" for outcome, names in metrics.items() if names]
        n_metrics = sum(map(len, metrics.values()))
        return f"{other} against {first}, by {n_metrics} metrics: {'; '.join(parts) or 'none was measured in both'}."


def compare_experiments(experiments: Sequence[Experiment], ratings: Sequence[Rating] = ()) -> Comparison:
    """Compare two or more experiments with the first of them.

    Only utterances that every run has with the same text are compared; a warning says when others were left out. Raises
    PipelineError if there is no common utterance.
    """
    experiments, warnings = _common(experiments)
    runs = _runs(experiments)
    results = []
    with progress_bar("comparing", len(METRICS), "metric") as bar:
        for metric in METRICS:
            results.append(_result(experiments, metric))
            bar.update(1)
    results = [result for result in results if any(interval is not None for interval in result.intervals)]
    for result in results:
        missing = [
            experiment.name
            for experiment, interval in zip(experiments, result.intervals, strict=True)
            if interval is None
        ]
        if missing:
            warnings.append(f"{result.metric.name} was not measured for {', '.join(missing)}.")
    measured = [result.metric for result in results]
    return Comparison(
        experiments=tuple(experiments),
        results=tuple(results),
        groups=tuple(_groups(experiments, measured)),
        utterances=pd.concat({metric.key: _values(experiments, metric) for metric in measured}, names=["metric"]),
        ratings=tuple(rating_results(ratings, [experiment.name for experiment in experiments])),
        params=changed([run.params for run in runs]),
        evaluators=changed([run.evaluators for run in runs]),
        warnings=tuple(warnings + _evaluator_warning(experiments)),
    )


def _runs(experiments: Sequence[Experiment]) -> list[Run]:
    return [run for experiment in experiments for run in experiment.runs]


def _common(experiments: Sequence[Experiment]) -> tuple[list[Experiment], list[str]]:
    """Return the experiments restricted to the common utterances, in one order, and a warning if any were left out."""
    runs = _runs(experiments)
    texts = pd.concat([run.utterances["text"] for run in runs], axis=1, join="inner")
    common = texts.index[texts.eq(texts.iloc[:, 0], axis=0).all(axis=1)].sort_values()
    sizes = ", ".join(f"{run.revision} has {len(run.utterances)}" for run in runs)
    if common.empty:
        raise PipelineError(
            f"compare: the test sets have no utterance in common ({sizes}); evaluate them on the same corpus and split"
        )
    warnings = []
    if any(len(run.utterances) != len(common) for run in runs):
        warnings.append(
            f"The test sets differ ({sizes}): the {len(common)} utterances that all have are compared, "
            "so figures differ from metrics.json."
        )
    return [_restricted(experiment, common) for experiment in experiments], warnings


def _restricted(experiment: Experiment, utterance_ids: pd.Index[str]) -> Experiment:
    runs = [dataclasses.replace(run, utterances=run.utterances.loc[utterance_ids]) for run in experiment.runs]
    return dataclasses.replace(experiment, runs=tuple(runs))


def _evaluator_warning(experiments: Sequence[Experiment]) -> list[str]:
    runs = _runs(experiments)
    if changed([run.evaluators for run in runs]):
        return [
            "The experiments were measured by different evaluators (below), which may cause a difference. "
            "`dvc repro evaluate` measures again."
        ]
    first, *others = (run.utterances.reindex(columns=["recording_transcript"]) for run in runs)
    if not all(other.equals(first) for other in others):
        return ["The recogniser's transcripts of the recordings differ: the recordings or the recogniser have changed."]
    return []


def _rows(experiment: Experiment) -> list[list[dict[str, Any]]]:
    return [run.rows for run in experiment.runs]


def _has(experiment: Experiment, metric: Metric) -> bool:
    """Return whether every run has the metric."""
    return all(metric.is_measured(rows) for rows in _rows(experiment))


def _result(experiments: Sequence[Experiment], metric: Metric) -> MetricResult:
    has = [_has(experiment, metric) for experiment in experiments]
    first = experiments[0]
    own = metric.of_recordings
    rows = [_rows(experiment) if known else None for experiment, known in zip(experiments, has, strict=True)]
    return MetricResult(
        metric=metric,
        intervals=tuple(None if runs is None else confidence_interval(runs, metric) for runs in rows),
        seeds=tuple(() if runs is None else tuple(map(metric.figure, runs)) for runs in rows),
        recording=own.figure(first.runs[0].rows) if own and _has(first, own) else math.nan,
        contrasts=tuple(
            _contrast(first, other, metric) if has[0] and known else None
            for other, known in zip(experiments[1:], has[1:], strict=True)
        ),
    )


def _contrast(first: Experiment, other: Experiment, metric: Metric) -> Contrast:
    difference = paired_difference(_rows(first), _rows(other), metric)
    return Contrast(
        difference, verdict_of(difference, metric), verdict_sentence(first.name, other.name, metric, difference)
    )


def _groups(experiments: Sequence[Experiment], measured: Sequence[Metric]) -> list[GroupResult]:
    metrics = [metric for metric in measured if metric.key in BREAKDOWN_KEYS]
    groups = []
    for kind in ("speaker", "language"):
        for name, utterances in experiments[0].runs[0].utterances.groupby(kind):
            part = [_restricted(experiment, utterances.index) for experiment in experiments]
            results = tuple(_result(part, metric) for metric in metrics)
            groups.append(GroupResult(kind, str(name), len(utterances), results))
    return groups


def _values(experiments: Sequence[Experiment], metric: Metric) -> pd.DataFrame:
    """Return a metric's values: a row per utterance and a column per experiment, the mean over its seeds."""
    values = {experiment.name: _seed_mean(experiment, metric) for experiment in experiments}
    return pd.DataFrame(values, index=experiments[0].runs[0].utterances.index)


def _seed_mean(experiment: Experiment, metric: Metric) -> npt.NDArray[np.float64]:
    """Return each utterance's value (N,), the mean over seeds; NaN where a seed has none."""
    if not _has(experiment, metric):
        return np.full(len(experiment.runs[0].utterances), math.nan)
    values = []
    for rows in _rows(experiment):
        above, below = metric.weights(rows)
        values.append(np.divide(above, below, out=np.full(len(rows), math.nan), where=below != 0))
    means: npt.NDArray[np.float64] = np.mean(values, axis=0)
    return means


def worst(comparison: Comparison, metric: Metric, experiment: str) -> list[str]:
    """Return the utterances in which an experiment is worst by a metric, the worst first."""
    if metric.key not in comparison.utterances.index:
        return []
    values = comparison.utterances.loc[metric.key][experiment]
    return list((values.nsmallest if metric.higher_is_better else values.nlargest)(N_WORST).index)


def most_different(comparison: Comparison, metric: Metric, experiment: str) -> list[str]:
    """Return the utterances in which an experiment differs most from the first, largest difference first."""
    if metric.key not in comparison.utterances.index:
        return []
    values = comparison.utterances.loc[metric.key]
    distances = (values[experiment] - values[comparison.names[0]]).abs()
    return list(distances[distances > 0].nlargest(2 * N_WORST).index)
