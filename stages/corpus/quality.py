"""Quality checks: limits on measurements, repeated samples, and durations that are unusual for their text."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from model.settings import Settings, Share
from stages.common.errors import RowRejected

MIN_GROUP = 30  # utterances of a speaker and language, needed to estimate the usual duration
MAD_TO_STD = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class QualityParams(Settings):
    """Limits on measurements; `measure.Measurements` gives the units. A null limit rejects nothing.

    `min_bandwidth_share` is in parts of half the file's rate. `max_duration_deviation` is in robust standard deviations
    of the logarithm of seconds per character, among texts of like length of the same speaker and language.
    """

    measure_speech: bool = False
    max_clipped_share: Share | None = None
    max_dc_offset: Share | None = None
    max_noise_floor_dbfs: float | None = None
    min_loudness_lufs: float | None = None
    min_bandwidth_hz: float | None = None
    min_bandwidth_share: Share | None = None
    min_speech_share: Share | None = None
    duplicates: Literal["keep", "keep_first"] = "keep"
    max_duration_deviation: float | None = None

    def _conflicts(self) -> Iterator[str]:
        if self.min_speech_share is not None and not self.measure_speech:
            yield "min_speech_share needs measure_speech: true"


@dataclass(frozen=True)
class _Limit:
    param: str
    measurement: str
    reason: str
    unit: str


LIMITS = (
    _Limit("max_clipped_share", "clipped_share", "clipped", " of the samples"),
    _Limit("max_dc_offset", "dc_offset", "dc_offset", " of full scale"),
    _Limit("max_noise_floor_dbfs", "noise_floor_dbfs", "noisy", " dBFS"),
    _Limit("min_loudness_lufs", "loudness_lufs", "too_quiet", " LUFS"),
    _Limit("min_bandwidth_hz", "bandwidth_hz", "narrow_band", " Hz"),
    _Limit("min_bandwidth_share", "bandwidth_share", "upsampled", " of half the sample rate"),
    _Limit("min_speech_share", "speech_share", "no_speech", " of the time"),
)


def check_limits(row: Mapping[str, Any], params: QualityParams) -> None:
    """Raise RowRejected with the value and the limit if a measured recording exceeds one."""
    values = {**row, "dc_offset": abs(row["dc_offset"]), "bandwidth_share": bandwidth_share(row)}
    for limit in LIMITS:
        bound, value = getattr(params, limit.param), values[limit.measurement]
        if bound is None:
            continue
        is_minimum = limit.param.startswith("min_")
        if value is None:
            exceeded = is_minimum
        else:
            exceeded = value < bound if is_minimum else value > bound
        if exceeded:
            measured = "nothing measurable" if value is None else f"{value:.4g}{limit.unit}"
            relation = "less" if is_minimum else "more"
            raise RowRejected(limit.reason, f"{measured}, {relation} than corpus.quality.{limit.param} = {bound:g}")


def bandwidth_share(row: Mapping[str, Any]) -> float | None:
    """Return a measured recording's bandwidth in parts of half its sample rate."""
    return None if row["bandwidth_hz"] is None else row["bandwidth_hz"] / (row["sample_rate_hz"] / 2)


def seconds_per_character(seconds: float, text: str) -> float | None:
    """Return the mean duration of a letter, syllable sign or digit of the text; None for a text without any."""
    count = n_characters(text)
    return seconds / count if count else None


def n_characters(text: str) -> int:
    """Return the number of letters, syllable signs and digits of a text."""
    return sum(character.isalnum() for character in text)


class CorpusStatistics:
    """Statistics over all rows, numbered in the order of `add`. Keeps about 40 bytes per row."""

    def __init__(self) -> None:
        self._samples = bytearray()
        self._groups: dict[tuple[str, str], int] = {}
        self._group_of, self._n_characters, self._seconds = array("i"), array("i"), array("d")

    def add(self, row: Mapping[str, Any]) -> None:
        """Add the next measured row."""
        self._samples += bytes.fromhex(row["samples_xxh3"])
        self._group_of.append(self._groups.setdefault((row["speaker"], row["language"]), len(self._groups)))
        self._n_characters.append(n_characters(row["text"]))
        seconds = row["seconds_per_character"]
        self._seconds.append(math.nan if seconds is None else seconds)

    def first_with_same_samples(self) -> npt.NDArray[np.int64]:
        """Return for every row (N,) the number of the first row with the same samples."""
        hashes = np.array(self._samples, dtype=np.uint8).view("S16")
        _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
        return first[group]

    def duration_deviations(self, included: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Return the robust z-score (N,) of every row's log seconds per character, NaN where it is undefined.

        The reference is the median of the `MIN_GROUP` rows of the same speaker and language that are nearest in
        length, because pauses are a larger share of short utterances. The score is undefined for rows that are not
        `included`, in groups smaller than `MIN_GROUP`, and in groups without spread.
        """
        group_of, lengths, seconds = np.array(self._group_of), np.array(self._n_characters), np.array(self._seconds)
        deviations = np.full(len(seconds), np.nan)
        usable = included & ~np.isnan(seconds)
        for group in range(len(self._groups)):
            members = np.flatnonzero(usable & (group_of == group))
            if len(members) < MIN_GROUP:
                continue
            members = members[np.argsort(lengths[members], kind="stable")]
            logs = np.log(seconds[members])
            medians = np.median(np.lib.stride_tricks.sliding_window_view(logs, MIN_GROUP), axis=1)
            distances = logs - medians[np.clip(np.arange(len(members)) - MIN_GROUP // 2, 0, len(medians) - 1)]
            spread = MAD_TO_STD * float(np.median(np.abs(distances)))
            if spread > 0:
                deviations[members] = distances / spread
        return deviations
