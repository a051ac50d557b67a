"""Signal measurements that reveal defects of a recording. The limits on them are applied in quality.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.audio import decode as audio
from stages.audio.loudness import integrated_lufs
from stages.audio.voice_activity import speech_frames

FloatArray = npt.NDArray[np.float32]

FULL_SCALE = 32767 / 32768
MIN_CLIPPED_PEAK = 0.1  # equal neighbours at a lower peak come from coarse quantisation
CLIPPED_RUN_SAMPLES = 3
NOISE_FRAME_SECONDS = 0.025
NOISE_PERCENTILE = 5.0
DIGITAL_SILENCE_POWER = 1e-12  # -120 dBFS
BANDWIDTH_FRAME_SECONDS = 0.03
BANDWIDTH_CHUNK_FRAMES = 64  # fits in the CPU's cache
BANDWIDTH_RANGE_DB = 80.0  # below the strongest frequency: reaches a quiet room's noise, not the leakage of resamplers
QUANTISATION_MARGIN_DB = 10.0  # over 16-bit quantisation noise, for dither and the variance of a short clip's spectrum


@dataclass(frozen=True)
class Measurements:
    """Measurements of one recording; None where there is nothing to measure.

    Over the channels: peak_dbfs, the largest sample of any; clipped_share, the share of clipped samples in the worst;
    dc_offset, the mean of the worst in parts of full scale. Of the mono mix that the model is trained on:
    loudness_lufs; noise_floor_dbfs, the level of the quietest 5 %; bandwidth_hz, the highest frequency with energy;
    speech_share, the share of the time with speech (None unless requested).
    """

    peak_dbfs: float | None
    clipped_share: float
    dc_offset: float
    loudness_lufs: float | None
    noise_floor_dbfs: float | None
    bandwidth_hz: float | None
    speech_share: float | None


def measure(samples: FloatArray, sample_rate_hz: int, *, with_speech: bool) -> Measurements:
    """Measure samples (S, C) in [-1, 1]."""
    mono = audio.to_mono(samples)
    peak = float(np.abs(samples).max())
    means = samples.mean(axis=0, dtype=np.float64)
    return Measurements(
        peak_dbfs=20 * math.log10(peak) if peak > 0 else None,
        clipped_share=max(clipped_share(channel) for channel in samples.T),
        dc_offset=float(means[np.abs(means).argmax()]),
        loudness_lufs=integrated_lufs(mono, sample_rate_hz),
        noise_floor_dbfs=noise_floor_dbfs(mono, sample_rate_hz),
        bandwidth_hz=bandwidth_hz(mono, sample_rate_hz),
        speech_share=float(speech_frames(mono, sample_rate_hz).mean()) if with_speech else None,
    )


def clipped_share(channel: FloatArray) -> float:
    """Return the share of samples (S,) in runs of three or more at full scale or at the channel's own extreme.

    The own extreme reveals audio that was attenuated after clipping, unless a filter smoothed it in between.
    """
    n_clipped = 0
    for extreme, beyond in (
        (channel.max(), np.greater_equal),
        (-channel.min(), lambda values, level: values <= -level),
    ):
        if extreme < MIN_CLIPPED_PEAK:
            continue
        at_top = np.flatnonzero(beyond(channel, np.float32(min(extreme, FULL_SCALE))))
        runs = np.diff(np.flatnonzero(np.diff(at_top, prepend=-2, append=len(channel) + 1) > 1))
        n_clipped += int(runs[runs >= CLIPPED_RUN_SAMPLES].sum())
    return n_clipped / len(channel)


def noise_floor_dbfs(mono: FloatArray, sample_rate_hz: int) -> float | None:
    """Return the RMS level in dBFS below which the quietest 5 % of 25 ms frames of samples (S,) lie.

    A DC offset is removed, and frames of digital silence are skipped because they contain no room noise.
    """
    n_frame = min(len(mono), max(1, round(NOISE_FRAME_SECONDS * sample_rate_hz)))
    frames = mono[: len(mono) // n_frame * n_frame].reshape(-1, n_frame).astype(np.float64)
    power = np.einsum("ij,ij->i", frames, frames) / n_frame - np.square(frames.mean(axis=1))
    power = power[power > DIGITAL_SILENCE_POWER]
    return 10 * math.log10(float(np.percentile(power, NOISE_PERCENTILE))) if len(power) else None


def bandwidth_hz(mono: FloatArray, sample_rate_hz: int) -> float | None:
    """Return the highest frequency of samples (S,) with energy in the long-term power spectrum.

    Energy means at most 80 dB below the strongest frequency and 10 dB above 16-bit quantisation noise. The result is
    half the sample rate for most recordings, and half the original rate for upsampled ones.
    """
    n_fft = 1 << max(4, round(math.log2(BANDWIDTH_FRAME_SECONDS * sample_rate_hz)))
    padded = np.zeros(max(n_fft, len(mono) // n_fft * n_fft), dtype=np.float32)
    padded[: len(mono)] = mono[: len(padded)] - mono.mean(dtype=np.float64)
    window = np.hanning(n_fft).astype(np.float32)
    frames = padded.reshape(-1, n_fft)
    power = np.zeros(n_fft // 2 + 1)
    for start in range(0, len(frames), BANDWIDTH_CHUNK_FRAMES):
        spectra = np.fft.rfft(frames[start : start + BANDWIDTH_CHUNK_FRAMES] * window, axis=1)
        power += (np.square(spectra.real) + np.square(spectra.imag)).sum(axis=0)
    power /= len(frames)
    if not power.any():
        return None
    quantisation = (2.0**-15) ** 2 / 12 * float(np.square(window).sum()) * 10 ** (QUANTISATION_MARGIN_DB / 10)
    above = np.flatnonzero(power > max(float(power.max()) * 10 ** (-BANDWIDTH_RANGE_DB / 10), quantisation))
    return float(above[-1]) * sample_rate_hz / n_fft if len(above) else None
