"""What a network that judges sound can be given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

SAMPLE_RATE_HZ = 16000  # of every network here
Waveform = npt.NDArray[np.float32]


def audible(waveform: npt.NDArray[np.floating], sample_rate_hz: int, min_seconds: float) -> Waveform | None:
    """Return a waveform (S,) at 16 kHz; None where it is empty, shorter than `min_seconds`, not finite or digitally
    silent.
    """
    samples = np.asarray(waveform, dtype=np.float32)
    if (
        not len(samples)
        or len(samples) < min_seconds * sample_rate_hz
        or not np.isfinite(samples).all()
        or not samples.any()
    ):
        return None
    return soxr.resample(samples, sample_rate_hz, SAMPLE_RATE_HZ, quality="HQ")
