"""Bootstrap confidence intervals of metrics, and of differences between two voices, over the test utterances.

All voices share each resample, so that their common variation cancels (paired bootstrap; Bisani and Ney 2004,
"Bootstrap estimates for confidence intervals in ASR performance evaluation"). The resampled units are:

- One speaker: utterances.
- Two to nine speakers: utterances within each speaker. So few speakers cannot represent others (Cameron, Gelbach and
  Miller 2008), and the interval applies to these speakers only. Speakers with fewer than five utterances are pooled.
- Ten speakers or more: whole speakers with all their utterances, since those of a speaker resemble each other.
  Utterances are not resampled within them: that would count their spread twice (Davison and Hinkley 1997, section 3.8;
  Field and Welsh 2007).
- Several seeds of a voice are an additional level (Bouthillier et al. 2021), with too few values to resample. Each
  resample's difference is shifted by s · t · √(1/n + 1/m), where s is the standard deviation of the resample's seeds,
  pooled over both voices, and t is drawn from Student's distribution with n + m − 2 degrees of freedom, as in Student's
  test of two means. A voice with one seed is assumed to vary as much as the other.

Intervals are percentiles, widened for small samples as Student's t is (Hesterberg 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from stages.metrics.catalogue import NARROW_SPACE, Metric, ScoreRow, format_figure

FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95
N_RESAMPLES = 10_000
SEED = 20_240_229
MIN_SPEAKERS = 10  # to resample speakers instead of utterances
MIN_UTTERANCES_PER_SPEAKER = 5  # to be a stratum
MIN_UTTERANCES = 10  # for a verdict
ROUNDING = 1e-9  # relative to the figure: smaller differences are rounding errors of the sums
CHUNK_VALUES = 2**21  # counts in memory at once: 16 MB per array


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval, in the metric's unit.

    All are NaN if no utterance has a value; the bounds are also NaN if only one has.
    """

    value: float
    low: float
    high: float
    n_utterances: int


@dataclass(frozen=True)
class Difference:
    """B minus A with its 95 % interval, in the metric's unit.

    `probability_better` is the share of the resamples in which B is better (ties count half). `n_utterances` have a
    value in both, by `n_clusters` speakers; `drawn` names the resampled units (see the module's docstring).
    """

    difference: float
    low: float
    high: float
    probability_better: float
    n_utterances: int
    n_clusters: int
    drawn: str


class Verdict(StrEnum):
    """Conclusion of a difference about B."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "the same"
    UNCLEAR = "unclear"
    TOO_FEW = "too few utterances"


def confidence_interval(runs: Sequence[Sequence[ScoreRow]], metric: Metric) -> Interval:
    """Return the mean figure of a voice's runs (one per seed) with its interval, over the utterances common to all."""
    sample = _Sample.of(runs, metric)
    generator = np.random.default_rng(SEED)
    resampled = sample.resampled(generator)
    low, high = sample.bounds(resampled.mean(axis=1) + _seed_variation([resampled], generator))
    return Interval(float(sample.figures().mean()), low, high, sample.n_utterances)


def paired_difference(
    runs_a: Sequence[Sequence[ScoreRow]], runs_b: Sequence[Sequence[ScoreRow]], metric: Metric
) -> Difference:
    """Return the mean figure of B's runs (one per seed) minus that of A's, over the utterances common to all."""
    sample = _Sample.of([*runs_a, *runs_b], metric)
    generator = np.random.default_rng(SEED)
    n_a = len(runs_a)
    resampled_a, resampled_b = np.split(sample.resampled(generator), [n_a], axis=1)
    draws = resampled_b.mean(axis=1) - resampled_a.mean(axis=1) + _seed_variation([resampled_a, resampled_b], generator)
    figures = sample.figures()
    draws[np.abs(draws) < ROUNDING * np.nanmax(np.abs(figures), initial=0.0)] = 0.0
    low, high = sample.bounds(draws)
    gains = draws[np.isfinite(draws)] * (1 if metric.higher_is_better else -1)
    probability = float((gains > 0).mean() + 0.5 * (gains == 0).mean()) if gains.size else math.nan
    difference = float(figures[n_a:].mean() - figures[:n_a].mean())
    return Difference(difference, low, high, probability, sample.n_utterances, sample.n_speakers, sample.units)


@dataclass(frozen=True)
class _Sample:
    """Resampling units: numerators and denominators (runs, units), and the indices of each stratum's units."""

    numerators: FloatArray
    denominators: FloatArray
    strata: list[npt.NDArray[np.intp]]
    n_utterances: int
    n_speakers: int
    units: str

    @classmethod
    def of(cls, runs: Sequence[Sequence[ScoreRow]], metric: Metric) -> _Sample:
        """Return the units of the utterances that have a value in every run, paired by `utterance_id`."""
        by_id = [{row["utterance_id"]: row for row in rows} for rows in runs]
        common = [name for name in by_id[0] if all(name in rows for rows in by_id[1:])]
        weights = [metric.weights([rows[name] for name in common]) for rows in by_id]
        numerators, denominators = (np.array(side) for side in zip(*weights, strict=True))
        measured = ((numerators != 0) | (denominators != 0)).all(axis=0)
        numerators, denominators = numerators[:, measured], denominators[:, measured]
        names = np.array([by_id[0][name]["speaker"] for name in common], dtype=object)[measured]
        speakers, speaker_of = np.unique(names.astype(str), return_inverse=True)
        if len(speakers) >= MIN_SPEAKERS:
            members = np.eye(len(speakers))[speaker_of]
            strata = [np.arange(len(speakers))]
            return cls(numerators @ members, denominators @ members, strata, len(names), len(speakers), "speakers")
        strata = _strata(speaker_of, len(speakers))
        units = "utterances" if len(strata) == 1 else "utterances within speakers"
        return cls(numerators, denominators, strata, len(names), len(speakers), units)

    def figures(self) -> FloatArray:
        """Return each run's figure (runs,)."""
        return _ratio(self.numerators.sum(axis=1), self.denominators.sum(axis=1))

    def resampled(self, generator: np.random.Generator) -> FloatArray:
        """Return each run's figure in every resample (N_RESAMPLES, runs)."""
        n_units = self.numerators.shape[1]
        rows = max(1, CHUNK_VALUES // max(n_units, 1))
        chunks = []
        for start in range(0, N_RESAMPLES, rows):
            size = min(rows, N_RESAMPLES - start)
            counts = np.zeros((size, n_units))
            for units in self.strata:
                counts[:, units] = _draw_counts(len(units), size, generator)
            # One product per run, so that equal runs have bit-identical sums.
            numerators, denominators = (
                np.stack([counts @ run for run in runs], axis=1) for runs in (self.numerators, self.denominators)
            )
            chunks.append(_ratio(numerators, denominators))
        return np.concatenate(chunks)

    def bounds(self, draws: FloatArray) -> tuple[float, float]:
        """Return the interval of resampled figures (N_RESAMPLES,); NaN without a degree of freedom."""
        n_units = self.numerators.shape[1]
        freedom = n_units - len(self.strata)
        finite = draws[np.isfinite(draws)]
        if freedom < 1 or not finite.size:
            return math.nan, math.nan
        tail = ndtr(math.sqrt(n_units / freedom) * stdtrit(freedom, (1 - LEVEL) / 2))
        low, high = np.quantile(finite, [tail, 1 - tail])
        return float(low), float(high)


def _strata(speaker_of: npt.NDArray[np.intp], n_speakers: int) -> list[npt.NDArray[np.intp]]:
    """Return the utterances of each stratum: one speaker's, or those of all speakers with too few utterances."""
    groups = [np.flatnonzero(speaker_of == speaker) for speaker in range(n_speakers)]
    separate = sorted((group for group in groups if len(group) >= MIN_UTTERANCES_PER_SPEAKER), key=len)
    pooled = [group for group in groups if len(group) < MIN_UTTERANCES_PER_SPEAKER]
    if separate and pooled and sum(map(len, pooled)) < MIN_UTTERANCES_PER_SPEAKER:
        pooled.append(separate.pop())
    return [*separate, np.concatenate(pooled)] if pooled else separate


def _draw_counts(n_units: int, size: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return each unit's count in `size` draws of n_units units with replacement (size, n_units)."""
    drawn = generator.integers(n_units, size=(size, n_units)) + n_units * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * n_units).reshape(size, n_units)


def _seed_variation(voices: Sequence[FloatArray], generator: np.random.Generator) -> FloatArray:
    """Return the random shift by seeds of a mean or difference of means (N_RESAMPLES,).

    `voices` holds the resampled figures of each voice (N_RESAMPLES, seeds).
    """
    freedom = sum(figures.shape[1] - 1 for figures in voices)
    if not freedom:
        return np.zeros(N_RESAMPLES)
    squares = sum(figures.var(axis=1) * figures.shape[1] for figures in voices)
    scale = sum(1 / figures.shape[1] for figures in voices)
    shift: FloatArray = np.sqrt(squares / freedom * scale) * generator.standard_t(freedom, N_RESAMPLES)
    return shift


def _ratio(numerators: FloatArray, denominators: FloatArray) -> FloatArray:
    ratio: FloatArray = np.full(numerators.shape, math.nan)
    np.divide(numerators, denominators, out=ratio, where=denominators != 0)
    return ratio


def verdict_of(difference: Difference, metric: Metric) -> Verdict:
    """Return the verdict on B; unclear if the interval contains 0."""
    if difference.n_utterances < MIN_UTTERANCES or not math.isfinite(difference.low):
        return Verdict.TOO_FEW
    if difference.low == difference.high == 0:
        return Verdict.SAME
    if difference.low <= 0 <= difference.high:
        return Verdict.UNCLEAR
    return Verdict.BETTER if (difference.low > 0) == metric.higher_is_better else Verdict.WORSE


def verdict_sentence(name_a: str, name_b: str, metric: Metric, difference: Difference) -> str:
    """Return the verdict on B against A as a sentence."""
    verdict = verdict_of(difference, metric)
    name = _name_within_sentence(metric)
    if verdict is Verdict.TOO_FEW:
        return (
            f"Too few utterances for a verdict: {name} was measured for {difference.n_utterances} in both, "
            f"at least {MIN_UTTERANCES} are needed."
        )
    if verdict is Verdict.SAME:
        return f"{name_a} and {name_b} are the same: {name} does not differ on any utterance."
    low, high = difference.low, difference.high
    if verdict is Verdict.UNCLEAR:
        middle = format_difference(difference.difference, metric.unit)
        bounds = format_range(low, high, metric.unit)
        return (
            f"No difference could be shown: {name} of {name_b} minus {name_a} is {middle} "
            f"(95{NARROW_SPACE}% interval {bounds})."
        )
    direction = "lower" if difference.difference < 0 else "higher"
    amount = format_difference(abs(difference.difference), metric.unit, sign=False)
    low, high = sorted((abs(low), abs(high)))
    bounds = format_range(low, high, metric.unit, sign=False)
    return f"{name_b} is {verdict} than {name_a}: {name} {direction} by {amount} (95{NARROW_SPACE}% interval {bounds})."


def _name_within_sentence(metric: Metric) -> str:
    return metric.name if metric.name[1:2].isupper() else metric.name[:1].lower() + metric.name[1:]


def format_difference(value: float, unit: str, *, sign: bool = True) -> str:
    """Return a difference for display: -0.021 percent → "−2.1 points"."""
    text = format_figure(abs(value), unit)
    if unit == "percent":
        text = text.replace(f"{NARROW_SPACE}%", f"{NARROW_SPACE}points")
    if not sign or not math.isfinite(value) or not any(digit in text for digit in "123456789"):
        return text
    return ("+" if value > 0 else "\N{MINUS SIGN}") + text


def format_range(low: float, high: float, unit: str, *, sign: bool = True) -> str:
    """Return the bounds of a difference for display, without the unit: "−3.3 to +0.1"."""
    return " to ".join(format_difference(bound, unit, sign=sign).split(NARROW_SPACE)[0] for bound in (low, high))
