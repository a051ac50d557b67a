"""One recording described: what the file is and what was measured of it. A result depends on nothing but the file's
bytes and `Measuring`.
"""

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
class Measuring:
    """Longer recordings than `max_seconds` are not decoded; `with_speech` looks for voices too."""

    max_seconds: float
    with_speech: bool


def describe(file: audio.HashedFile, measuring: Measuring) -> tuple[dict[str, Any], bytes]:
    """Return (facts, nothing) of one recording; raises RowRejected when it cannot be decoded, is silent or too long, or
    changed meanwhile.
    """
    recording = audio.decode(file.read(), Path(file.path).suffix, measuring.max_seconds)
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
    return facts | asdict(measure(recording.samples, recording.sample_rate_hz, with_speech=measuring.with_speech)), b""


def samples_xxh3(recording: audio.Recording) -> str:
    """Return a hash (hex) of the decoded samples and their rate: the same for the same sound in another lossless
    container.
    """
    digest = xxh3_128(f"{recording.sample_rate_hz} {recording.samples.shape[1]}\n".encode())
    digest.update(np.ascontiguousarray(recording.samples, dtype="<f4").data)
    return digest.hexdigest()
