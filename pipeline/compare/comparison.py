"""Experiments against each other, computed: every metric with its interval, differences from the first experiment, and
what they show.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.compare.experiments import Experiment, Row, changed
from pipeline.compare.ratings import Rating, RatingResult, rating_results
from stages.common.errors import PipelineError
from stages.common.progress import progress_bar
from stages.metrics.bootstrap import (
    Difference,
    Interval,
    Outcome,
    confidence_interval_of_seeds,
    outcome_of,
    paired_difference_of_seeds,
    verdict,
)
from stages.metrics.catalogue import METRICS, Metric

BREAKDOWN_KEYS = ("cer", "mos", "mcd_db")  # of speakers and languages: what is heard, how natural it is, how near it is
OF_THE_MACHINE = ("real_time_factor",)  # shown, but no voice is better for it: what else ran then counts
N_WORST = 5


@dataclass(frozen=True)
class Contrast:
    """An experiment against the first one by one metric."""

    difference: Difference
    outcome: Outcome
    sentence: str


@dataclass(frozen=True)
class MetricResult:
    """One metric: each experiment's figure, each seed's, the recording's own (NaN without), and contrasts with the
    first experiment.

    An experiment that was not measured by it has None, and so has its contrast.
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
class UtterancePair:
    """An utterance by one metric: the value of each experiment (NaN where not known), as a mean over its seeds."""

    metric: Metric
    row: Row
    values: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """All that the page and the files show. `experiments` hold the common utterances only, in one order."""

    experiments: tuple[Experiment, ...]
    results: tuple[MetricResult, ...]
    groups: tuple[GroupResult, ...]
    utterances: tuple[UtterancePair, ...]
    ratings: tuple[RatingResult, ...]
    params: Mapping[str, tuple[Any, ...]]  # those that differ: a value per run
    evaluators: Mapping[str, tuple[Any, ...]]
    warnings: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Return the experiments' names."""
        return [experiment.name for experiment in self.experiments]

    @property
    def verdicts(self) -> list[str]:
        """Return a line for every experiment but the first: in what it is better, worse or neither."""
        return [self._verdict(number) for number in range(len(self.experiments) - 1)]

    def _verdict(self, number: int) -> str:
        first, other = self.names[0], self.names[number + 1]
        of: dict[Outcome, list[str]] = {outcome: [] for outcome in Outcome}
        for result in self.results:
            if (contrast := result.contrasts[number]) is not None and result.metric.key not in OF_THE_MACHINE:
                of[contrast.outcome].append(result.metric.name)
        words = {
            Outcome.BETTER: "better in",
            Outcome.WORSE: "worse in",
            Outcome.UNCLEAR: "no difference could be shown in",
            Outcome.SAME: "the same in",
            Outcome.TOO_FEW: "too few utterances for",
        }
        parts = [f"{words[outcome]} {len(names)} ({', '.join(names)})" for outcome, names in of.items() if names]
        return f"{other} against {first}, by {sum(map(len, of.values()))} metrics: {'; '.join(parts) or 'none was measured in both'}."


def compare_experiments(experiments: Sequence[Experiment], ratings: Sequence[Rating] = ()) -> Comparison:
    """Compare two or more experiments; the first is what the others are measured against.

    Only utterances that every run has, with the same text, are compared, with a warning if that leaves any out. Raises
    PipelineError
    where nothing is common.
    """
    experiments, warnings = _common(experiments)
    runs = [run for experiment in experiments for run in experiment.runs]
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
            warnings.append(f"{result.metric.name} was not measured of {', '.join(missing)}.")
    measured = [result.metric for result in results]
    return Comparison(
        experiments=tuple(experiments),
        results=tuple(results),
        groups=tuple(_groups(experiments, measured)),
        utterances=tuple(_utterances(experiments, measured)),
        ratings=tuple(rating_results(ratings, [experiment.name for experiment in experiments])),
        params=changed([run.params for run in runs]),
        evaluators=changed([run.evaluators for run in runs]),
        warnings=tuple(warnings + _evaluator_warning(experiments)),
    )


def _common(experiments: Sequence[Experiment]) -> tuple[list[Experiment], list[str]]:
    """Return the experiments with the utterances that all have, in one order, and what that left out."""
    runs = [run for experiment in experiments for run in experiment.runs]
    texts = [{row["utterance_id"]: row["text"] for row in run.rows} for run in runs]
    common = sorted(name for name, text in texts[0].items() if all(other.get(name) == text for other in texts[1:]))
    sizes = ", ".join(f"{run.revision} has {len(own)}" for run, own in zip(runs, texts, strict=True))
    if not common:
        raise PipelineError(
            f"compare: no utterance of the test sets is common to all ({sizes}); evaluate them on one corpus and split"
        )
    warnings = []
    if any(len(own) != len(common) for own in texts):
        warnings.append(
            f"The test sets differ ({sizes}): the {len(common)} utterances that all have are compared, and figures are not "
            "those of metrics.json."
        )
    restricted = []
    for experiment in experiments:
        own = []
        for run in experiment.runs:
            by_id = {row["utterance_id"]: row for row in run.rows}
            own.append(dataclasses.replace(run, rows=tuple(by_id[name] for name in common)))
        restricted.append(dataclasses.replace(experiment, runs=tuple(own)))
    return restricted, warnings


def _evaluator_warning(experiments: Sequence[Experiment]) -> list[str]:
    runs = [run for experiment in experiments for run in experiment.runs]
    if changed([run.evaluators for run in runs]):
        return [
            "The experiments were measured by different evaluators (below): a difference may be theirs. `dvc repro evaluate` measures again."
        ]
    first, *others = ([row.get("recording_transcript") for row in run.rows] for run in runs)
    if any(other != first for other in others):
        return [
            "The recogniser heard other words in the very same recordings: the recordings or the evaluator have changed."
        ]
    return []


def _rows(experiment: Experiment) -> list[Sequence[Row]]:
    return [run.rows for run in experiment.runs]


def _has(experiment: Experiment, metric: Metric) -> bool:
    """Return whether every run has the metric."""
    return all(metric.is_known(run.rows) for run in experiment.runs)


def _result(experiments: Sequence[Experiment], metric: Metric) -> MetricResult:
    has = [_has(experiment, metric) for experiment in experiments]
    first = experiments[0]
    own = metric.of_recordings
    rows = [_rows(experiment) if known else None for experiment, known in zip(experiments, has, strict=True)]
    return MetricResult(
        metric=metric,
        intervals=tuple(None if runs is None else confidence_interval_of_seeds(runs, metric) for runs in rows),
        seeds=tuple(() if runs is None else tuple(map(metric.figure, runs)) for runs in rows),
        recording=own.figure(first.runs[0].rows) if own and _has(first, own) else math.nan,
        contrasts=tuple(
            _contrast(first, other, metric) if has[0] and known else None
            for other, known in zip(experiments[1:], has[1:], strict=True)
        ),
    )


def _contrast(first: Experiment, other: Experiment, metric: Metric) -> Contrast:
    difference = paired_difference_of_seeds(_rows(first), _rows(other), metric)
    return Contrast(difference, outcome_of(difference, metric), verdict(first.name, other.name, metric, difference))


def _groups(experiments: Sequence[Experiment], measured: Sequence[Metric]) -> list[GroupResult]:
    metrics = [metric for metric in measured if metric.key in BREAKDOWN_KEYS]
    groups = []
    for kind in ("speaker", "language"):
        names = [row[kind] for row in experiments[0].runs[0].rows]
        for name in sorted(set(names)):
            part = [
                _part(experiment, [index for index, other in enumerate(names) if other == name])
                for experiment in experiments
            ]
            groups.append(
                GroupResult(kind, name, names.count(name), tuple(_result(part, metric) for metric in metrics))
            )
    return groups


def _part(experiment: Experiment, indices: Sequence[int]) -> Experiment:
    runs = tuple(dataclasses.replace(run, rows=tuple(run.rows[index] for index in indices)) for run in experiment.runs)
    return dataclasses.replace(experiment, runs=runs)


def _utterances(experiments: Sequence[Experiment], measured: Sequence[Metric]) -> list[UtterancePair]:
    pairs = []
    for metric in measured:
        values = np.array([_values(experiment, metric) for experiment in experiments])
        pairs += [
            UtterancePair(metric, row, tuple(column.tolist()))
            for row, column in zip(experiments[0].runs[0].rows, values.T, strict=True)
        ]
    return pairs


def _values(experiment: Experiment, metric: Metric) -> npt.NDArray[np.float64]:
    """Return each utterance's value (N,), the mean over seeds; NaN where a seed has none."""
    if not _has(experiment, metric):
        return np.full(len(experiment.runs[0].rows), math.nan)
    values = []
    for rows in _rows(experiment):
        above, below = metric.weights(rows)
        values.append(np.divide(above, below, out=np.full(len(rows), math.nan), where=below != 0))
    means: npt.NDArray[np.float64] = np.mean(values, axis=0)
    return means


def worst(comparison: Comparison, key: str, experiment: int) -> list[UtterancePair]:
    """Return the utterances in which an experiment is worst by a metric, the worst first."""
    pairs = [
        pair for pair in comparison.utterances if pair.metric.key == key and math.isfinite(pair.values[experiment])
    ]
    return sorted(pairs, key=lambda pair: _loss(pair, experiment), reverse=True)[:N_WORST]


def furthest_apart(comparison: Comparison, key: str, experiment: int) -> list[UtterancePair]:
    """Return the utterances in which an experiment differs most from the first by a metric, the biggest difference
    first.
    """
    pairs = [
        pair for pair in comparison.utterances if pair.metric.key == key and pair.values[experiment] != pair.values[0]
    ]
    pairs = [pair for pair in pairs if math.isfinite(pair.values[experiment] - pair.values[0])]
    return sorted(pairs, key=lambda pair: abs(pair.values[experiment] - pair.values[0]), reverse=True)[: 2 * N_WORST]


def _loss(pair: UtterancePair, experiment: int) -> float:
    return -pair.values[experiment] if pair.metric.higher_is_better else pair.values[experiment]
