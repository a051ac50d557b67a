"""Description of one recording: file format and signal measurements, a pure function of its bytes and the settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_128

from stages.audio import decode as audio
from stages.common.errors import RowRejected
from stages.corpus.measure import measure


@dataclass(frozen=True)
class MeasureSettings:
    """Settings of `describe`: recordings over `max_seconds` are rejected; `with_speech` detects voice activity."""

    max_seconds: float
    with_speech: bool


def describe(file: audio.HashedFile, settings: MeasureSettings) -> tuple[dict[str, Any], bytes]:
    """Return (facts, b"") of one recording.

    Raises RowRejected if it cannot be decoded, is silent or too long, or changed after it was hashed.
    """
    recording = audio.decode(file.read(), Path(file.path).suffix, settings.max_seconds)
    n_samples, n_channels = recording.samples.shape
    if not audio.to_mono(recording.samples).any():
        raise RowRejected(
            "silent_audio", "the channels cancel each other out" if recording.samples.any() else "every sample is zero"
        )
    facts = {
        "container": recording.container,
        "sample_rate_hz": recording.sample_rate_hz,
        "n_channels": n_channels,
        "n_samples": n_samples,
        "samples_xxh3": samples_xxh3(recording),
    }
    return facts | asdict(measure(recording.samples, recording.sample_rate_hz, with_speech=settings.with_speech)), b""


def samples_xxh3(recording: audio.Recording) -> str:
    """Return a hash (hex) of the decoded samples and their rate, which is equal across lossless containers."""
    digest = xxh3_128(f"{recording.sample_rate_hz} {recording.samples.shape[1]}\n".encode())
    digest.update(np.ascontiguousarray(recording.samples, dtype="<f4").data)
    return digest.hexdigest()
