"""How sure a figure and a difference of two voices are: the bootstrap over the test utterances.

What is drawn, always for all voices alike, so that their common ups and downs cancel (the paired bootstrap; Bisani and
Ney 2004,
"Bootstrap estimates for confidence intervals in ASR performance evaluation"):

- One speaker: utterances.
- Up to nine speakers: utterances within each speaker. So few speakers cannot stand for others (Cameron, Gelbach and
Miller 2008), and
  the interval speaks of these speakers only. Speakers of fewer than five utterances are drawn from together.
- Ten speakers or more: whole speakers, each with all utterances, since those of a speaker resemble each other.
Utterances are not
  drawn again inside: that would count their spread twice (Davison and Hinkley 1997, section 3.8; Field and Welsh 2007).
- Several seeds of a voice are a level of their own (Bouthillier et al. 2021), too few to draw from: in each resample
the difference is moved
  by s · t · √(1/n + 1/m), with s the standard deviation of the seeds in it, pooled over both voices, and t drawn from
  Student's
  distribution of n + m − 2 degrees of freedom, as in his test of two means. A voice of one seed is taken to vary as the
  other does.

Intervals are percentiles, widened for small samples as Student's t is (Hesterberg 2015).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from stages.metrics.catalogue import NARROW_SPACE, Metric, format_figure

Rows = Sequence[Mapping[str, Any]]
FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95
N_RESAMPLES = 10_000
SEED = 20_240_229
MIN_SPEAKERS = 10  # from here on speakers are drawn, not utterances
MIN_OF_A_SPEAKER = 5  # utterances to be drawn from apart
MIN_UTTERANCES = 10  # for a verdict
ROUNDING = 1e-9  # of a figure: smaller differences are those of adding up
CHUNK_VALUES = 2**21  # draws held at once: 16 MB an array


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval, in the metric's unit; NaN where no utterance has it, bounds also where only one
    does.
    """

    value: float
    low: float
    high: float
    n_utterances: int


@dataclass(frozen=True)
class Difference:
    """B minus A with its 95 % interval, in the metric's unit.

    `probability_better` is the share of the resamples in which B is the better one (ties count half). `n_utterances`
    are those that
    both have; `drawn` says what was resampled (the module's docstring has why).
    """

    difference: float
    low: float
    high: float
    probability_better: float
    n_utterances: int
    n_clusters: int
    drawn: str


class Outcome(StrEnum):
    """What a difference shows about B."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "the same"
    UNCLEAR = "unclear"
    TOO_FEW = "too few utterances"


def confidence_interval(rows: Rows, metric: Metric) -> Interval:
    """Return a figure over rows of utterances.parquet with its interval."""
    return confidence_interval_of_seeds([rows], metric)


def confidence_interval_of_seeds(runs: Sequence[Rows], metric: Metric) -> Interval:
    """Return the mean figure of one voice's runs (its seeds) with its interval; the utterances that all runs have
    count.
    """
    sample = _Sample.of(runs, metric)
    generator = np.random.default_rng(SEED)
    resampled = sample.resampled(generator)
    low, high = sample.bounds(resampled.mean(axis=1) + _luck_of_seeds([resampled], generator))
    return Interval(float(sample.figures().mean()), low, high, sample.n_utterances)


def paired_difference(rows_a: Rows, rows_b: Rows, metric: Metric) -> Difference:
    """Return how B differs from A over the utterances that have a value in both, paired by `utterance_id`."""
    return paired_difference_of_seeds([rows_a], [rows_b], metric)


def paired_difference_of_seeds(runs_a: Sequence[Rows], runs_b: Sequence[Rows], metric: Metric) -> Difference:
    """Return how the mean of B's runs (its seeds) differs from the mean of A's."""
    sample = _Sample.of([*runs_a, *runs_b], metric)
    generator = np.random.default_rng(SEED)
    n_a = len(runs_a)
    resampled_a, resampled_b = np.split(sample.resampled(generator), [n_a], axis=1)
    draws = resampled_b.mean(axis=1) - resampled_a.mean(axis=1) + _luck_of_seeds([resampled_a, resampled_b], generator)
    figures = sample.figures()
    draws[np.abs(draws) < ROUNDING * np.nanmax(np.abs(figures), initial=0.0)] = 0.0
    low, high = sample.bounds(draws)
    gains = draws[np.isfinite(draws)] * (1 if metric.higher_is_better else -1)
    probability = float((gains > 0).mean() + 0.5 * (gains == 0).mean()) if gains.size else math.nan
    difference = float(figures[n_a:].mean() - figures[:n_a].mean())
    return Difference(difference, low, high, probability, sample.n_utterances, sample.n_speakers, sample.drawn)


@dataclass(frozen=True)
class _Sample:
    """What is drawn from: numerators and denominators (runs, units), and the units of each stratum."""

    above: FloatArray
    below: FloatArray
    strata: list[npt.NDArray[np.intp]]
    n_utterances: int
    n_speakers: int
    drawn: str

    @classmethod
    def of(cls, runs: Sequence[Rows], metric: Metric) -> _Sample:
        """Return the utterances that every run has a value for, as units to draw from."""
        by_id = [{row["utterance_id"]: row for row in rows} for rows in runs]
        common = [name for name in by_id[0] if all(name in rows for rows in by_id[1:])]
        weights = [metric.weights([rows[name] for name in common]) for rows in by_id]
        above, below = np.array([pair[0] for pair in weights]), np.array([pair[1] for pair in weights])
        known = ((above != 0) | (below != 0)).all(axis=0)
        above, below = above[:, known], below[:, known]
        names = np.array([by_id[0][name]["speaker"] for name in common], dtype=object)[known]
        speakers, speaker_of = np.unique(names.astype(str), return_inverse=True)
        n_utterances = len(names)
        if len(speakers) >= MIN_SPEAKERS:
            members = np.eye(len(speakers))[speaker_of]
            return cls(
                above @ members, below @ members, [np.arange(len(speakers))], n_utterances, len(speakers), "speakers"
            )
        strata = _strata(speaker_of, len(speakers))
        drawn = "utterances" if len(strata) == 1 else "utterances within speakers"
        return cls(above, below, strata, n_utterances, len(speakers), drawn)

    def figures(self) -> FloatArray:
        """Return each run's figure (runs,)."""
        return _ratio(self.above.sum(axis=1), self.below.sum(axis=1))

    def resampled(self, generator: np.random.Generator) -> FloatArray:
        """Return each run's figure in every resample (N_RESAMPLES, runs)."""
        n_units = self.above.shape[1]
        rows = max(1, CHUNK_VALUES // max(n_units, 1))
        chunks = []
        for start in range(0, N_RESAMPLES, rows):
            size = min(rows, N_RESAMPLES - start)
            counts = np.zeros((size, n_units))
            for units in self.strata:
                counts[:, units] = _draw(len(units), size, generator)
            # one product per run: equal runs add up to equal bits
            above, below = (np.stack([counts @ run for run in runs], axis=1) for runs in (self.above, self.below))
            chunks.append(_ratio(above, below))
        return np.concatenate(chunks)

    def bounds(self, draws: FloatArray) -> tuple[float, float]:
        """Return the interval of resampled figures (N_RESAMPLES,); NaN where nothing varies freely."""
        n_units = self.above.shape[1]
        freedom = n_units - len(self.strata)
        finite = draws[np.isfinite(draws)]
        if freedom < 1 or not finite.size:
            return math.nan, math.nan
        tail = ndtr(math.sqrt(n_units / freedom) * stdtrit(freedom, (1 - LEVEL) / 2))
        low, high = np.quantile(finite, [tail, 1 - tail])
        return float(low), float(high)


def _strata(speaker_of: npt.NDArray[np.intp], n_speakers: int) -> list[npt.NDArray[np.intp]]:
    """Return the utterances to draw from apart: a speaker's, or those of all speakers who have too few."""
    groups = [np.flatnonzero(speaker_of == speaker) for speaker in range(n_speakers)]
    apart = sorted((group for group in groups if len(group) >= MIN_OF_A_SPEAKER), key=len)
    together = [group for group in groups if len(group) < MIN_OF_A_SPEAKER]
    if apart and together and sum(map(len, together)) < MIN_OF_A_SPEAKER:
        together.append(apart.pop())
    return [*apart, np.concatenate(together)] if together else apart


def _draw(n_units: int, size: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return how often each unit is drawn when as many are drawn, with replacement, as there are (size, n_units)."""
    drawn = generator.integers(n_units, size=(size, n_units)) + n_units * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * n_units).reshape(size, n_units)


def _luck_of_seeds(voices: Sequence[FloatArray], generator: np.random.Generator) -> FloatArray:
    """Return what the seeds add to a mean or difference of means (N_RESAMPLES,), from each voice's figures
    (N_RESAMPLES, seeds).
    """
    freedom = sum(figures.shape[1] - 1 for figures in voices)
    if not freedom:
        return np.zeros(N_RESAMPLES)
    squares = sum(figures.var(axis=1) * figures.shape[1] for figures in voices)
    scale = sum(1 / figures.shape[1] for figures in voices)
    luck: FloatArray = np.sqrt(squares / freedom * scale) * generator.standard_t(freedom, N_RESAMPLES)
    return luck


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    return np.divide(above, below, out=np.full(above.shape, math.nan), where=below != 0)


def outcome_of(difference: Difference, metric: Metric) -> Outcome:
    """Return what a difference shows about B: nothing where its interval holds 0."""
    if difference.n_utterances < MIN_UTTERANCES or not math.isfinite(difference.low):
        return Outcome.TOO_FEW
    if difference.low == difference.high == 0:
        return Outcome.SAME
    if difference.low <= 0 <= difference.high:
        return Outcome.UNCLEAR
    return Outcome.BETTER if (difference.low > 0) == metric.higher_is_better else Outcome.WORSE


def verdict(name_a: str, name_b: str, metric: Metric, difference: Difference) -> str:
    """Return in one sentence what a metric says of B against A."""
    outcome = outcome_of(difference, metric)
    if outcome is Outcome.TOO_FEW:
        n = difference.n_utterances
        return f"Too few utterances for a verdict: {_in_sentence(metric)} is known of {n} in both, at least {MIN_UTTERANCES} are needed."
    if outcome is Outcome.SAME:
        return f"{name_a} and {name_b} are the same: {_in_sentence(metric)} does not differ on any utterance."
    low, high = difference.low, difference.high
    if outcome is Outcome.UNCLEAR:
        middle = format_difference(difference.difference, metric.unit)
        bounds = format_range(low, high, metric.unit)
        return f"No difference could be shown: {_in_sentence(metric)} of {name_b} minus {name_a} is {middle} (95{NARROW_SPACE}% interval {bounds})."
    direction = "lower" if difference.difference < 0 else "higher"
    how_much = format_difference(abs(difference.difference), metric.unit, sign=False)
    low, high = sorted((abs(low), abs(high)))
    bounds = format_range(low, high, metric.unit, sign=False)
    return f"{name_b} is {outcome} than {name_a}: {_in_sentence(metric)} {direction} by {how_much} (95{NARROW_SPACE}% interval {bounds})."


def _in_sentence(metric: Metric) -> str:
    return metric.name if metric.name[1:2].isupper() else metric.name[:1].lower() + metric.name[1:]


def format_difference(value: float, unit: str, *, sign: bool = True) -> str:
    """Return a difference as people read it: -0.021 percent → "−2.1 points"."""
    text = format_figure(abs(value), unit)
    if unit == "percent":
        text = text.replace(f"{NARROW_SPACE}%", f"{NARROW_SPACE}points")
    if not sign or not math.isfinite(value) or not any(digit in text for digit in "123456789"):
        return text
    return ("+" if value > 0 else "\N{MINUS SIGN}") + text


def format_range(low: float, high: float, unit: str, *, sign: bool = True) -> str:
    """Return bounds of a difference as people read them, without the unit: "−3.3 to +0.1"."""
    return " to ".join(format_difference(bound, unit, sign=sign).split(NARROW_SPACE)[0] for bound in (low, high))
