"""Columns that the corpus report plots, summarises and ranks."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NOT_KNOWN = "–"


@dataclass(frozen=True)
class ReportColumn:
    """A measured column and how it is shown; `rank` maps its values (a Series) so that the most suspicious are largest.

    `param` is its limit in corpus.quality; `in_summary` adds its median to the table of speakers and languages.
    """

    key: str
    title: str
    unit: str
    digits: int
    meaning: str
    rank: Callable[[Any], Any]
    param: str = ""
    in_summary: bool = False

    def format(self, value: float) -> str:
        """Return a value as the page shows it."""
        if not math.isfinite(value):
            return NOT_KNOWN
        return f"{value:,.{self.digits if value else 0}f}".replace("-", "\N{MINUS SIGN}")


# fmt: off
COLUMNS = (
    ReportColumn("seconds", "Duration", "seconds", 2, "Of the whole file, pauses included.",
                 operator.pos, in_summary=True),
    ReportColumn("loudness_lufs", "Loudness", "LUFS", 1,
                 "Integrated, ITU-R BS.1770. Broadcast speech has −23.",
                 operator.neg, "min_loudness_lufs", in_summary=True),
    ReportColumn("noise_floor_dbfs", "Noise floor", "dBFS", 1,
                 "Level of the quietest 5 %. High in a noisy room or without pauses.",
                 operator.pos, "max_noise_floor_dbfs", in_summary=True),
    ReportColumn("bandwidth_hz", "Bandwidth", "Hz", 0,
                 "Highest frequency with energy. Far below half the sample rate: the file was upsampled.",
                 operator.neg, "min_bandwidth_hz", in_summary=True),
    ReportColumn("bandwidth_share", "Bandwidth relative to half the sample rate", "of half the rate", 2,
                 "1 is the maximum.", operator.neg, "min_bandwidth_share"),
    ReportColumn("peak_dbfs", "Peak", "dBFS", 1, "0 is full scale.", operator.pos),
    ReportColumn("clipped_share", "Clipping", "of the samples", 5, "Share of the samples that are clipped.",
                 operator.pos, "max_clipped_share"),
    ReportColumn("dc_offset", "DC offset", "of full scale", 4, "Mean of the samples; 0 with sound equipment.",
                 abs, "max_dc_offset"),
    ReportColumn("speech_share", "Speech", "of the time", 2, "Share of the time with speech (silero-vad).",
                 operator.neg, "min_speech_share"),
    ReportColumn("seconds_per_character", "Seconds per character", "seconds", 3,
                 "Characters are letters, syllable signs and digits.",
                 operator.pos, in_summary=True),
    ReportColumn("duration_deviation", "Duration unusual for the text", "standard deviations", 1,
                 "Compared with texts of similar length by the speaker: wrong or truncated text, or long pauses.",
                 abs, "max_duration_deviation"),
)
# fmt: on
