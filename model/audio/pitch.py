"""Pitch of speech per frame, as input of the source-filter decoder and its posterior encoder.

Legend: S samples, T frames.
"""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import numpy.typing as npt

REFERENCE_HZ = 150.0
UNIT = 0.15  # of natural logarithm, about 2.6 semitones: gives one voice's log-pitch about the spread of log-mels
FLOOR_HZ, CEILING_HZ = 60.0, 600.0
WORLD_FLOOR_HZ, WORLD_CEILING_HZ = 71.0, 800.0  # WORLD's defaults
MIN_SECONDS = 0.1  # WORLD's analysis windows span several periods of the lowest voice


def pitch_features(
    pcm: npt.NDArray[np.int16], sample_rate_hz: int, hop_samples: int, n_frames: int
) -> npt.NDArray[np.float32]:
    """Return (2, T) for a recording (S,): log-pitch relative to 150 Hz in units of 0.15, and voicing, 1 or -1.

    Log-pitch is interpolated linearly through unvoiced frames. Frame t is centred on sample (t + 1/2) · hop.
    Source: see `pitch_track`.
    """
    half_frame_ms = 500.0 * hop_samples / sample_rate_hz
    track_hz, _ = pitch_track(pcm.astype(np.float64) / 32768, sample_rate_hz, half_frame_ms, FLOOR_HZ, CEILING_HZ)
    centred = track_hz[1::2][:n_frames]
    pitch_hz = np.zeros(n_frames)
    pitch_hz[: len(centred)] = centred
    voiced = pitch_hz > 0
    log_pitch = np.zeros(n_frames)
    if voiced.any():
        frames = np.arange(n_frames)
        log_pitch = np.interp(frames, frames[voiced], np.log(pitch_hz[voiced] / REFERENCE_HZ)) / UNIT
    return np.stack([log_pitch, np.where(voiced, 1.0, -1.0)]).astype(np.float32)


def pitch_track(
    samples: npt.NDArray[np.floating],
    sample_rate_hz: int,
    frame_ms: float,
    floor_hz: float = WORLD_FLOOR_HZ,
    ceiling_hz: float = WORLD_CEILING_HZ,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the pitch in Hz (T,), 0 where unvoiced, and the times in seconds (T,) of a waveform (S,).

    There is one frame every `frame_ms`. Source: DIO and StoneMask (Morise et al. 2009 and 2016), the package pyworld.
    """
    pyworld = load_pyworld()
    doubles = np.ascontiguousarray(samples, dtype=np.float64)
    rough_hz, times = pyworld.dio(doubles, sample_rate_hz, f0_floor=floor_hz, f0_ceil=ceiling_hz, frame_period=frame_ms)
    return pyworld.stonemask(doubles, rough_hz, times, sample_rate_hz), times


def load_pyworld() -> ModuleType:
    """Import pyworld without its deprecation notice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about pkg_resources, which is pinned
        import pyworld
    module: ModuleType = pyworld
    return module
