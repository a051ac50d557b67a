"""Which part of a recording is kept when silence at its ends is cut off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.audio.voice_activity import FRAME_SAMPLES, RATE_HZ, speech_frames

ENERGY_FRAME_SECONDS = 0.01


def loud_frames(mono: npt.NDArray[np.float32], sample_rate_hz: int, below_db: float) -> npt.NDArray[np.bool_]:
    """Return for every 10 ms of samples (S,) whether its power is at most `below_db` below the loudest such frame's."""
    n_frame = max(1, round(ENERGY_FRAME_SECONDS * sample_rate_hz))
    n_frames = -(-len(mono) // n_frame)
    padded = np.zeros(n_frames * n_frame)
    padded[: len(mono)] = mono
    power = np.square(padded.reshape(n_frames, n_frame)).mean(axis=1)
    return (power > 0) & (power >= power.max() * 10 ** (-below_db / 10))


def energy_span(
    mono: npt.NDArray[np.float32], sample_rate_hz: int, below_db: float, margin_seconds: float
) -> tuple[int, int] | None:
    """Return (start, end) in samples of what is loud enough with a margin on both sides; None of silence."""
    n_frame = max(1, round(ENERGY_FRAME_SECONDS * sample_rate_hz))
    return _span(
        loud_frames(mono, sample_rate_hz, below_db), n_frame, len(mono), round(margin_seconds * sample_rate_hz)
    )


def speech_span(mono: npt.NDArray[np.float32], sample_rate_hz: int, margin_seconds: float) -> tuple[int, int] | None:
    """Return (start, end) in samples from the first to the last speech with a margin on both sides; None without
    speech.
    """
    n_frame = FRAME_SAMPLES * sample_rate_hz / RATE_HZ
    return _span(speech_frames(mono, sample_rate_hz), n_frame, len(mono), round(margin_seconds * sample_rate_hz))


def _span(frames: npt.NDArray[np.bool_], n_frame: float, n_samples: int, n_margin: int) -> tuple[int, int] | None:
    found = np.flatnonzero(frames)
    if not len(found):
        return None
    return max(0, int(found[0] * n_frame) - n_margin), min(n_samples, round((found[-1] + 1) * n_frame) + n_margin)
