"""Catalogue of metrics: name, unit, direction, meaning, source, and aggregation over utterances."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.metrics.rendition import MEASURED, NOISE, RECORDING, RESYNTHESIS, SYNTHESIS

NOT_KNOWN = "–"
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"

ScoreRow = Mapping[str, Any]  # a row of utterances.parquet


@dataclass(frozen=True)
class Metric:
    """A column of utterances.parquet, and the figure of the same name over many utterances.

    The figure is the mean over the utterances that have a value. With `numerator` and `denominator` (columns) it is the
    ratio of their totals: an error rate counts edits instead of averaging utterances. `versions` lists the versions
    that are measured; all but the synthesis prefix the key with their name (`recording_cer`).
    """

    key: str
    name: str
    unit: str  # percent | score | cosine | correlation | another unit, shown as it is
    higher_is_better: bool
    meaning: str
    source: str = ""
    versions: tuple[str, ...] = MEASURED
    numerator: str | None = None
    denominator: str | None = None

    @property
    def direction(self) -> str:
        """Return which direction is better, in words."""
        return "Higher is better." if self.higher_is_better else "Lower is better."

    @property
    def of_recordings(self) -> Metric | None:
        """Return the same metric for the recordings themselves; None if it is not measured for them."""
        if RECORDING not in self.versions:
            return None
        numerator = self.numerator and f"{RECORDING}_{self.numerator}"
        return dataclasses.replace(self, key=f"{RECORDING}_{self.key}", numerator=numerator)

    def is_measured(self, rows: Sequence[ScoreRow]) -> bool:
        """Return whether rows (at least one) have the metric's columns and any value in them."""
        columns = {self.numerator, self.denominator} if self.numerator and self.denominator else {self.key}
        return columns <= rows[0].keys() and math.isfinite(self.figure(rows))

    def weights(self, rows: Sequence[ScoreRow]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return each utterance's numerator and denominator (N,), (N,); the figure is the ratio of their sums.

        Both are 0 for an utterance without a value, so that the same ratio holds for any resample of the utterances.
        """
        if self.numerator is not None and self.denominator is not None:
            numerators = np.array([row[self.numerator] for row in rows], dtype=np.float64)
            denominators = np.array([row[self.denominator] for row in rows], dtype=np.float64)
        else:
            numerators = np.array([row[self.key] for row in rows], dtype=np.float64)  # None becomes NaN
            denominators = np.ones(len(rows))
        measured = np.isfinite(numerators) & np.isfinite(denominators)
        return np.where(measured, numerators, 0.0), np.where(measured, denominators, 0.0)

    def figure(self, rows: Sequence[ScoreRow]) -> float:
        """Return the figure over rows; NaN if none has a value."""
        numerators, denominators = self.weights(rows)
        return float(numerators.sum() / denominators.sum()) if denominators.sum() else math.nan


_COMPARED = (RESYNTHESIS, SYNTHESIS, NOISE)  # versions with a distance from the recording
METRICS = (
    Metric(
        "cer",
        "Character error rate",
        "percent",
        False,
        "Edits per character (letter, pinyin letter or tone, kana) between the text and a recogniser's transcript.",
        "Whisper base (Radford et al. 2022)",
        numerator="character_edits",
        denominator="characters",
    ),
    Metric(
        "wer",
        "Word error rate",
        "percent",
        False,
        "The same per word (toned syllable in Chinese, kana in Japanese); one wrong letter makes the whole word wrong.",
        "Whisper base (Radford et al. 2022)",
        numerator="word_edits",
        denominator="words",
    ),
    Metric(
        "mos",
        "Naturalness (predicted MOS)",
        "score",
        True,
        "Listeners' ratings as predicted by a network, 1 bad to 5 excellent.",
        "DistillMOS (Stahl and Gamper 2025)",
    ),
    Metric(
        "dnsmos",
        "Signal quality (DNSMOS)",
        "score",
        True,
        "How clean the sound is, as predicted by a network, 1 bad to 5 excellent; it rates noise and distortion, "
        "not naturalness.",
        "DNSMOS P.835, overall (Reddy et al. 2022)",
    ),
    Metric(
        "speaker_similarity",
        "Speaker similarity",
        "cosine",
        True,
        "Cosine between the embedding of the speech and the mean embedding of ten training recordings of the speaker; "
        "1 is the same voice.",
        "Resemblyzer, GE2E (Wan et al. 2018)",
    ),
    Metric(
        "mcd_db",
        "Mel-cepstral distortion",
        "dB",
        False,
        "Distance of the spectral envelope (timbre) from the recording's.",
        "Kubichek 1993; envelopes by WORLD (Morise et al. 2016), paired by dynamic time warping",
        _COMPARED,
    ),
    Metric(
        "f0_rmse_cents",
        "Pitch error",
        "cents",
        False,
        "Root mean square distance of the pitch contour; 100 cents are a semitone.",
        "F0 by WORLD's DIO and StoneMask (Morise et al. 2016)",
        _COMPARED,
    ),
    Metric(
        "f0_correlation",
        "Pitch correlation",
        "correlation",
        True,
        "Whether the pitch contour rises and falls where the recording's does: 1 always, 0 by chance.",
        "Pearson's r of log F0 by WORLD's DIO and StoneMask (Morise et al. 2016)",
        _COMPARED,
    ),
    Metric(
        "voicing_error",
        "Voicing error",
        "percent",
        False,
        "Share of the speech that is voiced in one and unvoiced in the other.",
        "F0 by WORLD's DIO and StoneMask (Morise et al. 2016)",
        _COMPARED,
    ),
    Metric(
        "energy_rmse_db",
        "Energy error",
        "dB",
        False,
        "Root mean square distance of the loudness contour, regardless of the overall level.",
        "Level of WORLD's envelope (Morise et al. 2016), paired by dynamic time warping",
        _COMPARED,
    ),
    Metric(
        "duration_error",
        "Length error",
        "percent",
        False,
        "Difference in total length from the recording.",
        "",
        (SYNTHESIS,),
    ),
    Metric(
        "phone_duration_error_ms",
        "Phone length error",
        "ms",
        False,
        "Mean absolute difference of phone lengths from the recording's, as aligned by the voice itself.",
        "Monotonic alignment search (Kim et al. 2020)",
        (SYNTHESIS,),
    ),
    Metric(
        "real_time_factor",
        "Real-time factor",
        "×",
        False,
        "Seconds of computation per second of speech. Below 1 is faster than real time.",
        "",
        (SYNTHESIS,),
        numerator="synthesis_wall_seconds",
        denominator="synthesis_seconds",
    ),
)
BY_KEY = {metric.key: metric for metric in METRICS}


def format_figure(value: float | None, unit: str) -> str:
    """Return a figure for display, without a line break: 0.123 percent → "12.3 %", NaN → "–"."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    if unit == "percent":
        return f"{100 * value:.1f}{NARROW_SPACE}%"
    if unit == "cents":
        return f"{value:.0f}{NARROW_SPACE}cents"
    return f"{value:.2f}" if unit in ("score", "cosine", "correlation") else f"{value:.2f}{NARROW_SPACE}{unit}"
