"""Speech detection with the ONNX file of silero-vad, without its package, which imports torch."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.common.errors import PipelineError

RATE_HZ = 16000
FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64  # of the previous frame, repeated as input
STATE_SHAPE = (1, 1, 128)
THRESHOLD = 0.5
PACKAGES = ("silero-vad", "onnxruntime", "soxr")  # a result depends on their versions
_MODEL = Path("data") / "silero_vad_16k_sequence.onnx"


def speech_frames(mono: npt.NDArray[np.float32], sample_rate_hz: int) -> npt.NDArray[np.bool_]:
    """Return whether each 32 ms frame of samples (S,) is speech; raises PipelineError without the package."""
    import soxr

    samples = mono if sample_rate_hz == RATE_HZ else soxr.resample(mono, sample_rate_hz, RATE_HZ)
    n_frames = -(-len(samples) // FRAME_SAMPLES)
    padded = np.zeros(CONTEXT_SAMPLES + n_frames * FRAME_SAMPLES, dtype=np.float32)
    padded[CONTEXT_SAMPLES : CONTEXT_SAMPLES + len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT_SAMPLES + FRAME_SAMPLES)[::FRAME_SAMPLES]
    state = np.zeros(STATE_SHAPE, dtype=np.float32)
    probabilities = _network().run(["speech_probs"], {"input": np.ascontiguousarray(frames), "h": state, "c": state})[0]
    return np.asarray(probabilities).reshape(-1) >= THRESHOLD


@lru_cache(maxsize=1)
def _network() -> Any:
    import onnxruntime

    spec = importlib.util.find_spec("silero_vad")  # locates the package without running it
    if spec is None or not spec.submodule_search_locations:
        raise PipelineError("package 'silero-vad' is not installed; run `make setup`, or turn speech detection off")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = Path(next(iter(spec.submodule_search_locations))) / _MODEL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
