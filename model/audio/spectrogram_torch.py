"""Magnitude and mel spectrograms in torch: differentiable for batches on any device, and fast for one clip.

Legend: B batch, S samples, T frames, F frequencies.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from model.audio.settings import MEL_FLOOR, POWER_FLOOR, SpectrogramSettings

_FRAMES_PER_BLOCK = 128  # transformed at once, so that frames and spectra stay in the second-level cache


def write_magnitudes(waveform: npt.NDArray[np.float32], settings: SpectrogramSettings, out: npt.NDArray[Any]) -> None:
    """Write sqrt(re² + im² + 1e-6) of one clip, waveform (S,), into `out` (T, F), rounded to its type.

    Before rounding the bits are those of `torch_linear_spectrogram`.
    """
    padding = settings.padding_samples
    samples, magnitudes = torch.from_numpy(waveform), torch.from_numpy(out)
    padded = functional.pad(samples[None, None], (padding, padding), mode="reflect")[0, 0]
    frames = padded.unfold(0, settings.n_fft, settings.hop_samples)
    window, windowed = _buffers(settings, threading.get_ident())
    for rows, block in zip(
        torch.split(frames, _FRAMES_PER_BLOCK), torch.split(magnitudes, _FRAMES_PER_BLOCK), strict=True
    ):
        spectrum = torch.fft.rfft(torch.mul(rows, window, out=windowed[: len(rows)]))
        squares = torch.view_as_real(spectrum).square_()
        power = block if block.dtype == torch.float32 else torch.empty_like(block, dtype=torch.float32)
        torch.add(squares[..., 0], squares[..., 1], out=power)
        power.add_(POWER_FLOOR).sqrt_()
        if power is not block:
            block.copy_(power)


def torch_linear_spectrogram(waveform: Tensor, settings: SpectrogramSettings) -> Tensor:
    """Return magnitudes sqrt(re² + im² + 1e-6), waveform (B, S) → (B, F, T) with F = n_fft // 2 + 1.

    Every row is padded by reflection at its own ends, so the batch must be of equal lengths.
    Raises ValueError for rows shorter than `settings.min_samples`.
    """
    settings.require_length(waveform.shape[-1])
    padding = settings.padding_samples
    padded = functional.pad(waveform.unsqueeze(1), (padding, padding), mode="reflect").squeeze(1)
    window = _analysis_window(settings, waveform)
    # Frame-major: a transform over contiguous rows is three times as fast on CPU as torch.stft's layout.
    spectrum = torch.fft.rfft(padded.unfold(-1, settings.n_fft, settings.hop_samples) * window)
    parts = torch.view_as_real(spectrum)
    power = parts[..., 0].square() + parts[..., 1].square()
    return torch.sqrt(power + POWER_FLOOR).transpose(1, 2)  # (B, T, F) → (B, F, T)


def log_mel(linear: Tensor, filterbank: Tensor) -> Tensor:
    """Return the logarithm of the mel magnitudes, linear (B, F, T) and filterbank (n_mels, F) → (B, n_mels, T)."""
    mel = torch.matmul(linear.transpose(1, 2), filterbank.t()).transpose(1, 2)
    return torch.log(torch.clamp(mel, min=MEL_FLOOR))


def log_mel_spectrogram(waveform: Tensor, settings: SpectrogramSettings, filterbank: Tensor) -> Tensor:
    """Return the log-mel spectrogram of waveforms (B, S) → (B, n_mels, T), with a filterbank of `mel_filterbank`."""
    return log_mel(torch_linear_spectrogram(waveform, settings), filterbank)


@lru_cache(maxsize=16)
def _buffers(settings: SpectrogramSettings, thread: int) -> tuple[Tensor, Tensor]:
    """Return the window and a thread's buffer for a block of frames, reused from clip to clip."""
    with torch.inference_mode(mode=False):  # an inference tensor cannot be written to outside inference mode
        windowed = torch.empty(_FRAMES_PER_BLOCK, settings.n_fft, dtype=torch.float32)
        return _analysis_window(settings, windowed), windowed


def _analysis_window(settings: SpectrogramSettings, like: Tensor) -> Tensor:
    window = torch.hann_window(settings.win_samples, dtype=like.dtype, device=like.device)
    missing = settings.n_fft - settings.win_samples
    return functional.pad(window, (missing // 2, missing - missing // 2))
