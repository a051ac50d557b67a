"""Speaker similarity: the cosine between Resemblyzer's speaker embeddings, 1 for the same voice.

The network is the GE2E encoder of Wan et al. 2018, Generalized end-to-end loss for speaker verification. Its weights
are part of the package, which is installed without its dependencies; webrtcvad-wheels provides its voice activity
detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.common.errors import PipelineError
from stages.metrics.perceptual_input import SAMPLE_RATE_HZ, to_network_input

MIN_SECONDS = 0.3
Embedding = npt.NDArray[np.float32]


class SpeakerEncoder:
    """Speaker encoder: a waveform to its embedding."""

    def __init__(self) -> None:
        """Load the network. Raises PipelineError if its package is missing."""
        package = _resemblyzer()
        self._network: Any = package.VoiceEncoder("cpu", verbose=False)
        self._preprocess = package.preprocess_wav  # normalises the level and shortens long pauses

    def __call__(self, waveform: npt.NDArray[np.floating], sample_rate_hz: int) -> Embedding | None:
        """Return the embedding (256,) of a waveform (S,), of length 1; None if the waveform is too short or silent."""
        samples = to_network_input(waveform, sample_rate_hz, MIN_SECONDS)
        if samples is None:
            return None
        samples = self._preprocess(samples)
        if len(samples) < MIN_SECONDS * SAMPLE_RATE_HZ:
            return None
        embedding: Embedding = np.asarray(self._network.embed_utterance(samples), dtype=np.float32)
        return embedding


def weights_file() -> Path:
    """Return the file of the network's weights. Raises PipelineError if its package is missing."""
    return Path(_resemblyzer().__file__).with_name("pretrained.pt")


def _resemblyzer() -> Any:
    try:
        import resemblyzer
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"speaker similarity needs the package {error.name}: pip install --no-deps resemblyzer==0.1.4 "
            "webrtcvad-wheels==2.0.14.post1, or remove it from evaluate.hear"
        ) from error
    return resemblyzer


def mean_embedding(embeddings: Sequence[Embedding | None]) -> Embedding | None:
    """Return a speaker's normalised mean embedding (256,); None without any embedding."""
    present = [embedding for embedding in embeddings if embedding is not None]
    if not present:
        return None
    mean = np.mean(np.array(present, dtype=np.float64), axis=0)
    normalised: Embedding = (mean / np.linalg.norm(mean)).astype(np.float32)
    return normalised


def similarity(embedding: Embedding | None, speaker: Embedding | None) -> float:
    """Return the cosine of two embeddings (256,) of length 1; NaN if one is missing."""
    if embedding is None or speaker is None:
        return float("nan")
    return float(np.dot(embedding.astype(np.float64), speaker.astype(np.float64)))
