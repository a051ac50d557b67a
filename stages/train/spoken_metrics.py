"""Signal metrics on the way: validation utterances spoken from their text by the weights to keep, compared with their
recordings.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model.networks.random_draws import random_state_undisturbed
from stages.metrics.sampling import evenly_spaced
from stages.metrics.signal_metrics import SignalFeatures, analyse, compare, relative_length_error
from stages.train.settings import SPOKEN_METRICS
from stages.train.state import gather
from stages.train.validation import Validator

logger = logging.getLogger(__name__)

Row = dict[str, Any]


class SpokenMetrics:
    """Speaks utterances spread evenly over the validation set, always the same with the same noise, and measures them.

    `style` is how the voice speaks (see `own_style`).
    """

    def __init__(self, validator: Validator, utterances: int, style: Mapping[str, float]) -> None:
        self.validator = validator
        self.style = style
        self.indices = evenly_spaced(len(validator.source), utterances)
        self._recordings: dict[int, SignalFeatures | str] = {}

    def figures(self, rank: int, n_ranks: int) -> dict[str, float]:
        """Return metric → mean over the spoken utterances; every rank measures some, all know the result.

        A metric that any utterance lacks is left out and logged: over fewer utterances it would not compare with other
        steps.
        """
        own = {index: self._measure(index) for index in self.indices[rank::n_ranks]}
        measured = {index: row for share in gather(own) for index, row in share.items()}
        rows = [measured[index] for index in self.indices]
        unknown = [key for key in SPOKEN_METRICS if not all(math.isfinite(row[key]) for row in rows)]
        if unknown and rank == 0:
            reasons = sorted({row["reason"] for row in rows} - {""})
            logger.info(
                "train: step %d: cannot measure %s: %s",
                self.validator.trainer.step_count,
                ", ".join(unknown),
                "; ".join(reasons),
            )
        return {key: float(np.mean([row[key] for row in rows])) for key in SPOKEN_METRICS if key not in unknown}

    def _measure(self, index: int) -> Row:
        rate_hz = self.validator.facts.spectrogram.sample_rate_hz
        recording = (self.validator.source.pcm(index) / 32768.0).astype(np.float32)
        spoken = self._speak(index)
        if index not in self._recordings:
            self._recordings[index] = analyse(recording, rate_hz)
        distance = compare(self._recordings[index], analyse(spoken, rate_hz), aligned=False)
        return {**vars(distance), "duration_error": relative_length_error(len(recording), len(spoken))}

    @torch.no_grad()
    def _speak(self, index: int) -> npt.NDArray[np.float32]:
        """Return what the weights to keep say (S,)."""
        batch, _ = self.validator.batch(index)
        with random_state_undisturbed(self.validator.trainer.device):
            output = self.validator.speak(batch, **self.style)
        waveform: npt.NDArray[np.float32] = output.waveform[0, 0].float().cpu().numpy()
        return waveform
