"""Input checks and 16 kHz resampling for perceptual metrics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

SAMPLE_RATE_HZ = 16000  # of every network in this package
Waveform = npt.NDArray[np.float32]


def to_network_input(waveform: npt.NDArray[np.floating], sample_rate_hz: int, min_seconds: float) -> Waveform | None:
    """Return a waveform (S,) at 16 kHz; None if it is empty, shorter than `min_seconds`, silent or not finite."""
    samples = np.asarray(waveform, dtype=np.float32)
    too_short = not len(samples) or len(samples) < min_seconds * sample_rate_hz
    if too_short or not np.isfinite(samples).all() or not samples.any():
        return None
    resampled: npt.NDArray[np.float32] = soxr.resample(samples, sample_rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    return resampled
