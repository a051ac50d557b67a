"""Naturalness predicted by DistillMOS: 1 bad … 5 excellent.

Stahl and Gamper 2025, Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality
Assessment. The packages distillmos and xls-r-sqa are installed without their dependencies; the weights are part of the
first one.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stages.common.errors import PipelineError
from stages.metrics.perceptual_input import to_network_input

MIN_SECONDS = 0.1


class MosPredictor:
    """Predictor of a mean opinion score; the network averages over windows of 7.7 s."""

    def __init__(self) -> None:
        self._network = _load_network()

    def __call__(self, waveform: npt.NDArray[np.floating], sample_rate_hz: int) -> float:
        """Return the score of a waveform (S,); NaN if it is too short, silent or not finite."""
        samples = to_network_input(waveform, sample_rate_hz, MIN_SECONDS)
        if samples is None:
            return float("nan")
        with torch.inference_mode():
            score = self._network(torch.from_numpy(np.ascontiguousarray(samples))[None])
        return float(score.item())


@contextlib.contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Set the number of torch threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _torchaudio_placeholder() -> Iterator[None]:
    # distillmos imports torchaudio only for its command line's file reader. The registry's torchaudio is a CUDA build
    # that breaks beside a CPU torch, so an empty module replaces it during the import.
    if "torchaudio" in sys.modules:
        yield
        return
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    try:
        yield
    finally:
        del sys.modules["torchaudio"]


def weights_file() -> Path:
    """Return the file of the network's weights. Raises PipelineError if its package is missing."""
    return Path(_distillmos().DEFAULT_WEIGHTS_CHKPT)


def _distillmos() -> Any:
    try:
        with _torchaudio_placeholder():
            from distillmos import sqa
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"the MOS predictor needs the package {error.name}: "
            "pip install --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0, "
            "or remove it from evaluate.hear"
        ) from error
    return sqa


def _load_network() -> Any:
    network = _distillmos().ConvTransformerSQAModel(load_weights=False)  # its own loader prints to the terminal
    weights = torch.load(weights_file(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights["model"])
    return network.eval()
