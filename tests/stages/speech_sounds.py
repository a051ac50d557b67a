"""Small sounds and renditions that the tests of measuring and evaluation build."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.evaluate.scoring import ROW_SCHEMA
from stages.metrics.rendition import Rendition

RATE_HZ = 16000

Waveform = npt.NDArray[np.float32]


def make_vowel(f0_hz: float, seconds: float = 1.0, formants_hz: tuple[float, ...] = (700, 1200, 2600)) -> Waveform:
    """A steady vowel: harmonics of f0 under three resonances."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    harmonics = np.arange(1, int(RATE_HZ / 2 / f0_hz)) * f0_hz
    gains = sum(1 / (1 + ((harmonics - formant) / 150) ** 2) for formant in formants_hz) + 1e-3
    wave = (gains[:, None] * np.sin(2 * np.pi * harmonics[:, None] * times)).sum(axis=0)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def make_words(seconds_per_vowel: float = 0.3) -> Waveform:
    """Three vowels of different timbre and pitch with pauses between them."""
    pause = np.zeros(round(0.1 * RATE_HZ), dtype=np.float32)
    vowels = [
        make_vowel(120, seconds_per_vowel, (300, 2300, 3000)),
        make_vowel(150, seconds_per_vowel),
        make_vowel(135, seconds_per_vowel, (350, 800, 2400)),
    ]
    return np.concatenate([part for vowel in vowels for part in (pause, vowel)] + [pause])


def make_rendition(utterance_id: str = "ada/one", text: str = "Good morning", **changes: object) -> Rendition:
    """A rendition whose resynthesis is the recording with a little noise and whose synthesis is slower."""
    recording = make_words()
    noise = 0.003 * np.random.default_rng(0).standard_normal(len(recording)).astype(np.float32)
    values: dict[str, object] = {
        "utterance_id": utterance_id,
        "speaker": "ada",
        "language": "EN",
        "text": text,
        "sample_rate_hz": RATE_HZ,
        "recording": recording,
        "resynthesis": recording + noise,
        "synthesis": make_words(0.36),
        "phones": ("_", "g", "uh", "d", "_"),
        "synthesis_durations_frames": np.array([10, 15, 20, 25, 16]),
        "recording_durations_frames": np.array([8, 12, 20, 25, 16]),
        "hop_samples": 256,
        "synthesis_cpu_seconds": 0.4,
        "synthesis_wall_seconds": 0.2,
    } | changes
    return Rendition(**values)  # type: ignore[arg-type]


def make_row(**changes: object) -> dict[str, Any]:
    """A row of ROW_SCHEMA, zero and empty but for four words of twenty characters, and what is given."""
    row: dict[str, Any] = {field.name: _empty(field.type) for field in ROW_SCHEMA}
    return row | {"speaker": "ada", "language": "EN", "words": 4, "characters": 20, "synthesis_seconds": 2.0} | changes


def _empty(kind: pa.DataType) -> object:
    if pa.types.is_string(kind):
        return ""
    return False if pa.types.is_boolean(kind) else 0 if pa.types.is_integer(kind) else 0.0
