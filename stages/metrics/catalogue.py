"""What is measured of an utterance: every metric's name, unit, direction, meaning and source, and how it adds up over
utterances.
"""

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


@dataclass(frozen=True)
class Metric:
    """A column of utterances.parquet, and the figure of the same name over many utterances.

    The figure is the mean over the utterances that have it, or total `numerator` over total `denominator` (columns)
    where
    these are given: error rates count edits, they do not average utterances. `versions` are what has it: another
    version than
    the synthesis has its name before the key (`recording_cer`).
    """

    key: str
    name: str
    unit: str  # percent | score | cosine | correlation | a unit to print
    higher_is_better: bool
    meaning: str
    source: str = ""
    versions: tuple[str, ...] = MEASURED
    numerator: str | None = None
    denominator: str | None = None

    @property
    def direction(self) -> str:
        """Return in words which way is better."""
        return "Higher is better." if self.higher_is_better else "Lower is better."

    @property
    def of_recordings(self) -> Metric | None:
        """Return the same metric of the recordings themselves; None where they have none."""
        if RECORDING not in self.versions:
            return None
        numerator = self.numerator and f"{RECORDING}_{self.numerator}"
        return dataclasses.replace(self, key=f"{RECORDING}_{self.key}", numerator=numerator)

    def is_known(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether rows of utterances.parquet, one at least, have the metric's columns, and any value in them."""
        needed = {self.numerator, self.denominator} if self.numerator and self.denominator else {self.key}
        return needed <= rows[0].keys() and math.isfinite(self.figure(rows))

    def weights(self, rows: Sequence[Mapping[str, Any]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return each utterance's share of numerator and denominator (N,), (N,): the figure is the ratio of their sums.

        Both are 0 where an utterance has no value, so that any resample of the utterances adds up by the same rule.
        """
        if self.numerator is not None and self.denominator is not None:
            above = np.array([row[self.numerator] for row in rows], dtype=np.float64)
            below = np.array([row[self.denominator] for row in rows], dtype=np.float64)
        else:
            above = np.array([math.nan if row[self.key] is None else row[self.key] for row in rows], dtype=np.float64)
            below = np.ones(len(rows))
        known = np.isfinite(above) & np.isfinite(below)
        return np.where(known, above, 0.0), np.where(known, below, 0.0)

    def figure(self, rows: Sequence[Mapping[str, Any]]) -> float:
        """Return the figure over rows of utterances.parquet; NaN where none has a value."""
        above, below = self.weights(rows)
        return float(above.sum() / below.sum()) if below.sum() else math.nan


_COMPARED = (RESYNTHESIS, SYNTHESIS, NOISE)  # distances from the recording: it has none of its own
METRICS = (
    Metric(
        "cer",
        "Character error rate",
        "percent",
        False,
        "Edits per character (letter, pinyin letter or tone, kana) between the text and what a speech recogniser heard.",
        "Whisper base (Radford et al. 2022)",
        numerator="character_edits",
        denominator="characters",
    ),
    Metric(
        "wer",
        "Word error rate",
        "percent",
        False,
        "The same by words (toned syllables in Chinese, kana in Japanese); one misheard letter costs the whole word.",
        "Whisper base (Radford et al. 2022)",
        numerator="word_edits",
        denominator="words",
    ),
    Metric(
        "mos",
        "Naturalness (predicted MOS)",
        "score",
        True,
        "A network's guess of listeners' ratings, 1 bad to 5 excellent.",
        "DistillMOS (Stahl and Gamper 2025)",
    ),
    Metric(
        "dnsmos",
        "Signal quality (DNSMOS)",
        "score",
        True,
        "A network's guess of how clean the sound is, 1 bad to 5 excellent; it hears noise and damage, not unnatural speech.",
        "DNSMOS P.835, overall (Reddy et al. 2022)",
    ),
    Metric(
        "speaker_similarity",
        "Speaker similarity",
        "cosine",
        True,
        "Cosine between the voice heard and the mean of ten training recordings of the speaker; 1 is the same.",
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
        "Root mean square distance of the melody; 100 cents are a semitone.",
        "F0 by WORLD's DIO and StoneMask (Morise et al. 2016)",
        _COMPARED,
    ),
    Metric(
        "f0_correlation",
        "Pitch correlation",
        "correlation",
        True,
        "Whether the melody rises and falls where the recording's does: 1 always, 0 by chance.",
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
        "Root mean square distance of the loudness contour, whatever the level of the whole.",
        "Level of WORLD's envelope (Morise et al. 2016), paired by dynamic time warping",
        _COMPARED,
    ),
    Metric(
        "duration_error",
        "Length error",
        "percent",
        False,
        "Difference of the total length from the recording's.",
        "",
        (SYNTHESIS,),
    ),
    Metric(
        "phone_duration_error_ms",
        "Phone length error",
        "ms",
        False,
        "Mean absolute difference of the phones' lengths from the recording's, as the voice's own search aligns it.",
        "Monotonic alignment search (Kim et al. 2020)",
        (SYNTHESIS,),
    ),
    Metric(
        "real_time_factor",
        "Real-time factor",
        "×",
        False,
        "Seconds of computing per second of speech. Below 1 is faster than speech.",
        "",
        (SYNTHESIS,),
        numerator="synthesis_wall_seconds",
        denominator="synthesis_seconds",
    ),
)
BY_KEY = {metric.key: metric for metric in METRICS}


def format_figure(value: float | None, unit: str) -> str:
    """Return a figure as people read it, without a break: 0.123 percent → "12.3 %", NaN → "–"."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    if unit == "percent":
        return f"{100 * value:.1f}{NARROW_SPACE}%"
    if unit == "cents":
        return f"{value:.0f}{NARROW_SPACE}cents"
    return f"{value:.2f}" if unit in ("score", "cosine", "correlation") else f"{value:.2f}{NARROW_SPACE}{unit}"
