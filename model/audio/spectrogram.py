"""Magnitude and mel spectrograms of whole clips, and the settings of every transform.

Frames are rows: a transform over contiguous rows is several times faster than one over columns, and a
shard can hold the rows as they are. Clips are padded one by one, never as a batch, so a clip's bytes do
not depend on its neighbours. torch, whose transform takes half as long as SciPy's and gives the bits of
`torch.stft`, is imported by the first clip alone. For batches with gradients: `model.audio.spectrogram_torch`.
"""

from __future__ import annotations

import logging
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.audio.settings import MEL_FLOOR, SpectrogramSettings

logger = logging.getLogger(__name__)

INT16_SCALE = 32768.0

# What MKL chooses its transform by, and with it the last bit of a magnitude; the number of threads does not matter.
_VECTOR_UNITS = frozenset({"avx2", "avx512f"})
_KERNEL_VARIABLES = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")

# The Slaney mel scale: linear up to 1 kHz at 200/3 Hz a mel, then 27 mels for each factor of 6.4.
_SLANEY_HZ_PER_MEL = 200.0 / 3.0
_SLANEY_KNEE_HZ = 1000.0
_SLANEY_KNEE_MEL = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = np.log(6.4) / 27.0

FloatArray = npt.NDArray[np.float32]


def transform_kernels() -> list[str]:
    """Return what the last bits of magnitudes depend on besides samples and settings: torch, processor, MKL's settings."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="ascii", errors="ignore").split() if cpuinfo.is_file() else []
    chosen = [f"{name}={os.environ[name]}" for name in _KERNEL_VARIABLES if name in os.environ]
    return [f"torch {version('torch')}", platform.machine(), *sorted(_VECTOR_UNITS.intersection(flags)), *chosen]


def to_float(samples: npt.NDArray[np.int16] | FloatArray) -> FloatArray:
    """Samples (S,) as float32 in -1..1: int16 is divided by 32768, float32 passes.

    Raises TypeError for any other type and ValueError for anything but one channel.
    """
    if samples.ndim != 1:
        raise ValueError(f"expected mono samples (S,), found shape {samples.shape}")
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(INT16_SCALE)
    if samples.dtype == np.float32:
        return samples.astype(np.float32, copy=False)
    raise TypeError(f"expected int16 or float32 samples, found {samples.dtype}")


def linear_spectrogram(samples: npt.NDArray[np.int16] | FloatArray, settings: SpectrogramSettings) -> FloatArray:
    """Magnitudes sqrt(re² + im² + 1e-6) of one clip, samples (S,) → (T, F) with F = n_fft // 2 + 1.

    Raises ValueError for a clip shorter than `settings.min_samples`.
    """
    magnitudes = np.empty(_shape(samples, settings), dtype=np.float32)
    _transform(samples, settings, magnitudes)
    return magnitudes


def half_spectrogram(
    samples: npt.NDArray[np.int16] | FloatArray,
    settings: SpectrogramSettings,
    out: npt.NDArray[np.float16] | None = None,
) -> npt.NDArray[np.float16]:
    """`linear_spectrogram` rounded to fp16, as caches hold it and as training reads it, cached or not; into `out` if
    given.
    """
    rounded = np.empty(_shape(samples, settings), dtype=np.float16) if out is None else out
    _transform(samples, settings, rounded)
    return rounded


def _shape(samples: npt.NDArray[np.int16] | FloatArray, settings: SpectrogramSettings) -> tuple[int, int]:
    settings.require_length(len(samples))
    return settings.frame_count(len(samples)), settings.n_frequencies


def _transform(
    samples: npt.NDArray[np.int16] | FloatArray, settings: SpectrogramSettings, out: npt.NDArray[Any]
) -> None:
    from model.audio.spectrogram_torch import (
        write_magnitudes,
    )  # only now: torch takes as long to import as half an hour of speech to transform

    write_magnitudes(to_float(samples), settings, out)


def log_mel(linear: FloatArray, filterbank: FloatArray) -> FloatArray:
    """Natural logarithm of the mel magnitudes, linear (T, F) and filterbank (n_mels, F) → (T, n_mels)."""
    import scipy.sparse  # the data stage, which makes no mels, is spared the import

    # Sparse: nearly all weights are zero, and the order of summation is fixed whatever the thread count.
    mel = (scipy.sparse.csr_array(filterbank) @ linear.T).T
    return np.log(np.maximum(np.ascontiguousarray(mel), np.float32(MEL_FLOOR)))


def hz_to_mel(frequency_hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Hertz to the mel scale of Slaney's Auditory Toolbox (1998)."""
    hz = np.asarray(frequency_hz, dtype=np.float64)
    above = np.log(np.maximum(hz, _SLANEY_KNEE_HZ) / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP
    return np.where(hz < _SLANEY_KNEE_HZ, hz / _SLANEY_HZ_PER_MEL, _SLANEY_KNEE_MEL + above)


def mel_to_hz(mel: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Inverse of `hz_to_mel`."""
    value = np.asarray(mel, dtype=np.float64)
    above = _SLANEY_KNEE_HZ * np.exp(_SLANEY_LOG_STEP * np.maximum(value - _SLANEY_KNEE_MEL, 0.0))
    return np.where(value < _SLANEY_KNEE_MEL, value * _SLANEY_HZ_PER_MEL, above)


def mel_filterbank(settings: SpectrogramSettings) -> FloatArray:
    """Triangular filters (n_mels, F), equally spaced in Slaney mels, each of unit area in Hz."""
    settings.validate()
    bottom, top = hz_to_mel(settings.mel_fmin_hz), hz_to_mel(settings.mel_top_hz)
    edges_hz = mel_to_hz(np.linspace(bottom, top, settings.n_mels + 2))
    bins_hz = np.arange(settings.n_frequencies) * (settings.sample_rate_hz / settings.n_fft)
    lower, centre, upper = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising = (bins_hz - lower) / (centre - lower)
    falling = (upper - bins_hz) / (upper - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (upper - lower))
    n_empty = int(np.sum(~triangles.any(axis=1)))
    if n_empty:
        logger.warning(
            "%d of %d mel filters cover no frequency bin: lower n_mels or raise n_fft %d",
            n_empty,
            settings.n_mels,
            settings.n_fft,
        )
    return triangles.astype(np.float32)
