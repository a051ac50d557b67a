"""Whose voice it is: the cosine between speaker embeddings by Resemblyzer, 1 for the same.

The network is the GE2E encoder of Wan et al. 2018, Generalized end-to-end loss for speaker verification, whose weights
lie in
the package. It is installed without its dependencies: its voice detector comes from webrtcvad-wheels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.common.errors import PipelineError
from stages.metrics.audible import SAMPLE_RATE_HZ, audible

MIN_SECONDS = 0.3
Embedding = npt.NDArray[np.float32]


class SpeakerEncoder:
    """Speaker embeddings of waveforms."""

    def __init__(self) -> None:
        """Load the network. Raises PipelineError where its package is missing."""
        package = _resemblyzer()
        self._network: Any = package.VoiceEncoder("cpu", verbose=False)
        self._prepare = package.preprocess_wav  # level, and long pauses left out

    def __call__(self, waveform: npt.NDArray[np.floating], sample_rate_hz: int) -> Embedding | None:
        """Return the embedding (256,) of a waveform (S,), of length 1; None where there is too little of it."""
        samples = audible(waveform, sample_rate_hz, MIN_SECONDS)
        if samples is None:
            return None
        samples = self._prepare(samples)
        if len(samples) < MIN_SECONDS * SAMPLE_RATE_HZ:
            return None
        embedding: Embedding = np.asarray(self._network.embed_utterance(samples), dtype=np.float32)
        return embedding


def weights_file() -> Path:
    """Return the file of the network's weights. Raises PipelineError where its package is missing."""
    return Path(_resemblyzer().__file__).with_name("pretrained.pt")


def _resemblyzer() -> Any:
    try:
        import resemblyzer
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"speaker similarity needs the package {error.name}: pip install --no-deps resemblyzer==0.1.4 "
            "webrtcvad-wheels==2.0.14.post1, or leave it out of evaluate.hear"
        ) from error
    return resemblyzer


def mean_voice(embeddings: Sequence[Embedding | None]) -> Embedding | None:
    """Return the direction (256,) that stands for a speaker; None without any embedding."""
    known = [embedding for embedding in embeddings if embedding is not None]
    if not known:
        return None
    mean = np.mean(np.array(known, dtype=np.float64), axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def similarity(embedding: Embedding | None, speaker: Embedding | None) -> float:
    """Return the cosine of two embeddings (256,) of length 1; NaN where one is missing."""
    if embedding is None or speaker is None:
        return float("nan")
    return float(np.dot(embedding.astype(np.float64), speaker.astype(np.float64)))
