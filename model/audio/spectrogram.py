"""Magnitude and mel spectrograms of whole clips.

Frames are rows: a transform over contiguous rows is several times faster than one over columns, and shards store
the rows as they are. Clips are padded one by one, never as a batch, so a clip's bytes do not depend on its
neighbours. The transform is torch's, which takes half as long as SciPy's and gives the bits of `torch.stft`; torch
is imported with the first clip. For batches with gradients see `model.audio.spectrogram_torch`.

Legend: S samples, T frames, F frequencies.
"""

from __future__ import annotations

import logging
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import librosa  # its submodules are imported when first used
import numpy as np
import numpy.typing as npt

from model.audio.settings import MEL_FLOOR, SpectrogramSettings

logger = logging.getLogger(__name__)

INT16_SCALE = 32768.0

# MKL selects its transform by these, which changes the last bit of a magnitude; the number of threads does not.
_VECTOR_UNITS = frozenset({"avx2", "avx512f"})
_KERNEL_VARIABLES = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")

FloatArray = npt.NDArray[np.float32]


def transform_kernels() -> list[str]:
    """Return what a magnitude's last bits depend on besides samples and settings: torch, processor and MKL settings."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="ascii", errors="ignore").split() if cpuinfo.is_file() else []
    chosen = [f"{name}={os.environ[name]}" for name in _KERNEL_VARIABLES if name in os.environ]
    return [f"torch {version('torch')}", platform.machine(), *sorted(_VECTOR_UNITS.intersection(flags)), *chosen]


def to_float(samples: npt.NDArray[np.int16] | FloatArray) -> FloatArray:
    """Return samples (S,) as float32 in -1..1: int16 divided by 32768, float32 unchanged.

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
    """Return the magnitudes sqrt(re² + im² + 1e-6) of one clip, samples (S,) → (T, F) with F = n_fft // 2 + 1.

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
    """Return `linear_spectrogram` rounded to fp16, as shards hold it and training reads it; write to `out` if given."""
    rounded = np.empty(_shape(samples, settings), dtype=np.float16) if out is None else out
    _transform(samples, settings, rounded)
    return rounded


def _shape(samples: npt.NDArray[np.int16] | FloatArray, settings: SpectrogramSettings) -> tuple[int, int]:
    settings.require_length(len(samples))
    return settings.frame_count(len(samples)), settings.n_frequencies


def _transform(
    samples: npt.NDArray[np.int16] | FloatArray, settings: SpectrogramSettings, out: npt.NDArray[Any]
) -> None:
    # Imported here: importing torch takes as long as transforming half an hour of speech.
    from model.audio.spectrogram_torch import write_magnitudes

    write_magnitudes(to_float(samples), settings, out)


def log_mel(linear: FloatArray, filterbank: FloatArray) -> FloatArray:
    """Return the natural logarithm of the mel magnitudes, linear (T, F) and filterbank (n_mels, F) → (T, n_mels)."""
    import scipy.sparse  # here: the data stage computes no mels

    # Sparse: nearly all weights are zero, and the order of summation does not depend on the number of threads.
    mel = (scipy.sparse.csr_array(filterbank) @ linear.T).T
    logarithm: FloatArray = np.log(np.maximum(np.ascontiguousarray(mel), np.float32(MEL_FLOOR)))
    return logarithm


def mel_filterbank(settings: SpectrogramSettings) -> FloatArray:
    """Return triangular filters (n_mels, F), equally spaced in Slaney mels, each of unit area in Hz.

    The scale is librosa's. `librosa.filters.mel` gives the same filters to within one rounding, but imports
    scipy.signal: 1.2 s of CPU and 60 MB in every process that loads a voice, against 0.1 s and 5 MB for the scale.
    """
    edges_hz = librosa.mel_frequencies(settings.n_mels + 2, fmin=settings.mel_fmin_hz, fmax=settings.mel_top_hz)
    bins_hz = librosa.fft_frequencies(sr=settings.sample_rate_hz, n_fft=settings.n_fft)
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
    filters: FloatArray = triangles.astype(np.float32)
    return filters
