"""Loudness after ITU-R BS.1770-4, by pyloudnorm: its filters fit any sample rate."""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt

BLOCK_SECONDS = 0.4


def integrated_lufs(mono: npt.NDArray[np.float32], sample_rate_hz: int) -> float | None:
    """Return the gated loudness of samples (S,) in LUFS; None where no block reaches the gate of -70 LUFS.

    A clip shorter than the 400 ms block is one block.
    """
    import pyloudnorm  # brings scipy.signal, which only rows to compute need

    whole = math.nextafter(
        len(mono) / sample_rate_hz, 0.0
    )  # rounded up, it would be longer than the clip, which is refused
    meter = pyloudnorm.Meter(sample_rate_hz, block_size=min(BLOCK_SECONDS, whole))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about silence
        loudness = float(meter.integrated_loudness(mono.astype(np.float64)))
    return loudness if math.isfinite(loudness) else None


def gain_db_to(
    target_lufs: float, mono: npt.NDArray[np.float32], sample_rate_hz: int, peak_ceiling_dbfs: float
) -> float:
    """Return the gain that brings samples (S,) to a loudness, or as near as a peak of `peak_ceiling_dbfs` allows.

    What is too quiet to have a loudness gets none.
    """
    loudness = integrated_lufs(mono, sample_rate_hz)
    if loudness is None:
        return 0.0
    return min(target_lufs - loudness, peak_ceiling_dbfs - 20 * math.log10(float(np.abs(mono).max())))
