"""Spectrograms as small greyscale pictures, coloured by the page."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import linear_spectrogram, log_mel, mel_filterbank
from stages.metrics.rendition import FloatArray

FRAME_SECONDS = 0.008
N_MELS = 80
RANGE_DB = 70.0  # below the loudest point of all pictures of an utterance
N_LEVELS = 32  # of 2.3 dB: finer levels are not visible, but make up most of a file


def spectrogram_pngs(sounds: Sequence[tuple[FloatArray, int]]) -> list[bytes]:
    """Return a PNG for each sound (samples, rate), on a common level scale.

    A picture has 80 mel bands, the lowest at the bottom, and a column every 8 ms.
    """
    spectrograms = [log_mel_db(samples, sample_rate_hz) for samples, sample_rate_hz in sounds]
    top_db = max(float(spectrogram.max()) for spectrogram in spectrograms)
    return [_png(spectrogram, top_db) for spectrogram in spectrograms]


def log_mel_db(waveform: FloatArray, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Return the log-mel spectrogram (T, 80) in decibels; samples that are not finite count as 0."""
    hop_samples = round(FRAME_SECONDS * sample_rate_hz)
    n_fft = 2 * round(2 * FRAME_SECONDS * sample_rate_hz) + hop_samples % 2  # n_fft − hop must be even
    settings = SpectrogramSettings(sample_rate_hz, n_fft, hop_samples, n_fft, N_MELS)
    samples = np.nan_to_num(np.asarray(waveform, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    samples = np.pad(samples, (0, max(0, settings.min_samples - len(samples))))
    return log_mel(linear_spectrogram(samples, settings), mel_filterbank(settings)) * np.float32(20 / np.log(10))


def _png(spectrogram: npt.NDArray[np.float32], top_db: float) -> bytes:
    level = np.clip((spectrogram.T[::-1] - top_db) / RANGE_DB + 1, 0, 1)
    steps = np.round(level * (N_LEVELS - 1)) * (255 / (N_LEVELS - 1))
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(steps.astype(np.uint8))).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
