"""Speech-shaped noise: its score is a metric's floor on a corpus."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

ENVELOPE_SECONDS = 0.02


def speech_shaped_noise(waveform: npt.NDArray[np.float32], sample_rate_hz: int, name: str) -> npt.NDArray[np.float32]:
    """Return noise (S,) with the long-term spectrum, level and envelope of a waveform (S,).

    The phases are random, seeded by `name`: the same utterance has the same noise. It keeps the rhythm of the speech
    but has no phones and no melody.
    """
    if not waveform.any():
        return np.zeros_like(waveform)
    samples = waveform.astype(np.float64)
    spectrum = np.abs(np.fft.rfft(samples))
    phases = np.random.default_rng(zlib.crc32(name.encode("utf-8"))).uniform(0, 2 * np.pi, len(spectrum))
    carrier = np.fft.irfft(spectrum * np.exp(1j * phases), len(samples))
    width = max(1, round(ENVELOPE_SECONDS * sample_rate_hz))
    envelope, carrier_envelope = (
        np.sqrt(np.maximum(uniform_filter1d(signal**2, width), 1e-12)) for signal in (samples, carrier)
    )
    noise = carrier * envelope / carrier_envelope
    noise *= np.sqrt(np.mean(samples**2) / np.mean(noise**2))
    clipped: npt.NDArray[np.float32] = np.clip(noise, -1.0, 1.0).astype(np.float32)
    return clipped
