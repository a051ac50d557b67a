"""The pitch of speech at each frame, as the source-filter decoder and the posterior encoder beside it read it.

Legend: S samples, T frames.
"""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import numpy.typing as npt

REFERENCE_HZ = 150.0
UNIT = 0.15  # of natural logarithm, about 2.6 semitones: log-pitches of one voice then spread about as log-mels do
FLOOR_HZ, CEILING_HZ = 60.0, 600.0


def pitch_features(pcm: npt.NDArray[np.int16], sample_rate_hz: int, hop_samples: int, n_frames: int) -> npt.NDArray[np.float32]:
    """Return (2, T) for a recording (S,): log-pitch above 150 Hz in units of 0.15, straight through unvoiced frames, and voicing, 1 or -1.

    Frame t is centred on sample (t + 1/2) · hop. Source: DIO and StoneMask (Morise et al. 2009 and 2016), the package pyworld.
    """
    pyworld = load_pyworld()
    samples = np.ascontiguousarray(pcm, dtype=np.float64) / 32768
    half_frame_ms = 500.0 * hop_samples / sample_rate_hz
    rough, times = pyworld.dio(samples, sample_rate_hz, f0_floor=FLOOR_HZ, f0_ceil=CEILING_HZ, frame_period=half_frame_ms)
    centred = pyworld.stonemask(samples, rough, times, sample_rate_hz)[1::2][:n_frames]
    pitch_hz = np.zeros(n_frames)
    pitch_hz[: len(centred)] = centred
    voiced = pitch_hz > 0
    log_pitch = np.zeros(n_frames)
    if voiced.any():
        frames = np.arange(n_frames)
        log_pitch = np.interp(frames, frames[voiced], np.log(pitch_hz[voiced] / REFERENCE_HZ)) / UNIT
    return np.stack([log_pitch, np.where(voiced, 1.0, -1.0)]).astype(np.float32)


def load_pyworld() -> ModuleType:
    """Import pyworld when it is needed, and without its notice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it announces the end of pkg_resources, which is pinned
        import pyworld
    return pyworld
