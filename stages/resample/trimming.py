"""Trimming: the part of a recording between the silences at its ends."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.audio.voice_activity import FRAME_SAMPLES, RATE_HZ, speech_frames

ENERGY_FRAME_SECONDS = 0.01


def energy_span(
    mono: npt.NDArray[np.float32], sample_rate_hz: int, below_db: float, margin_seconds: float
) -> tuple[int, int] | None:
    """Return (start, end) in samples (S,) of the part with energy, with a margin on both sides; None for silence.

    The part reaches from the first to the last 10 ms frame that is less than `below_db` below the loudest one.
    """
    import librosa  # here: it takes seconds and 200 MB per process, which other values of resample.trim do not need

    if not mono.any():
        return None
    n_frame = round(ENERGY_FRAME_SECONDS * sample_rate_hz)
    _, (start, end) = librosa.effects.trim(mono, top_db=below_db, frame_length=n_frame, hop_length=n_frame)
    start -= n_frame // 2  # librosa's frames are centred: the first one begins half a frame before `start`
    return _with_margin(start, end, len(mono), round(margin_seconds * sample_rate_hz))


def speech_span(mono: npt.NDArray[np.float32], sample_rate_hz: int, margin_seconds: float) -> tuple[int, int] | None:
    """Return (start, end) in samples (S,) from the first to the last speech, with a margin on both sides; None without
    speech.
    """
    speech = np.flatnonzero(speech_frames(mono, sample_rate_hz))
    if not len(speech):
        return None
    n_frame = FRAME_SAMPLES * sample_rate_hz / RATE_HZ
    start, end = int(speech[0] * n_frame), round((speech[-1] + 1) * n_frame)
    return _with_margin(start, end, len(mono), round(margin_seconds * sample_rate_hz))


def _with_margin(start: int, end: int, n_samples: int, n_margin: int) -> tuple[int, int]:
    return max(0, int(start) - n_margin), min(n_samples, int(end) + n_margin)
