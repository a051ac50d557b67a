"""Loudness by ITU-R BS.1770-4 with pyloudnorm, whose filters support any sample rate."""

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
    import pyloudnorm  # imports scipy.signal, which stored rows do not need

    # Rounded up, the block would be longer than the clip, which pyloudnorm rejects.
    whole = math.nextafter(len(mono) / sample_rate_hz, 0.0)
    meter = pyloudnorm.Meter(sample_rate_hz, block_size=min(BLOCK_SECONDS, whole))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about silence
        loudness = float(meter.integrated_loudness(mono.astype(np.float64)))
    return loudness if math.isfinite(loudness) else None


def gain_db_to(
    target_lufs: float, mono: npt.NDArray[np.float32], sample_rate_hz: int, peak_ceiling_dbfs: float
) -> float:
    """Return the gain that brings samples (S,) to `target_lufs`, limited by a peak of `peak_ceiling_dbfs`.

    It is 0 for samples too quiet to have a loudness.
    """
    loudness = integrated_lufs(mono, sample_rate_hz)
    if loudness is None:
        return 0.0
    return min(target_lufs - loudness, peak_ceiling_dbfs - 20 * math.log10(float(np.abs(mono).max())))
