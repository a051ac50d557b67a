"""Signal metrics during training: validation utterances spoken with the EMA weights, against their recordings."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model.networks.random_draws import isolated_random_state
from stages.metrics.sampling import evenly_spaced
from stages.metrics.signal_metrics import SignalFeatures, analyse, compare, relative_length_error
from stages.train.settings import SPOKEN_METRICS
from stages.train.state import gather
from stages.train.validation import Validator

logger = logging.getLogger(__name__)


class SpokenMetrics:
    """Measurement of evenly spaced validation utterances, always the same ones with the same noise.

    `style` is the speaking style (see `own_style`).
    """

    def __init__(self, validator: Validator, utterances: int, style: Mapping[str, float]) -> None:
        self.validator = validator
        self.style = style
        self.indices = evenly_spaced(len(validator.source), utterances)
        self._recordings: dict[int, SignalFeatures | str] = {}

    def figures(self, rank: int, n_ranks: int) -> dict[str, float]:
        """Return metric → mean over the utterances; each rank measures a share, all return the result.

        A metric that any utterance lacks is omitted and logged: over fewer utterances it would not be comparable with
        other steps.
        """
        own = {index: self._measure(index) for index in self.indices[rank::n_ranks]}
        measured = {index: row for share in gather(own) for index, row in share.items()}
        rows = [measured[index] for index in self.indices]
        missing = [key for key in SPOKEN_METRICS if not all(math.isfinite(row[key]) for row in rows)]
        if missing and rank == 0:
            reasons = sorted({row["reason"] for row in rows} - {""})
            logger.info(
                "train: step %d: cannot measure %s: %s",
                self.validator.trainer.step_count,
                ", ".join(missing),
                "; ".join(reasons),
            )
        return {key: float(np.mean([row[key] for row in rows])) for key in SPOKEN_METRICS if key not in missing}

    def _measure(self, index: int) -> dict[str, Any]:
        rate_hz = self.validator.facts.spectrogram.sample_rate_hz
        recording = (self.validator.source.pcm(index) / 32768.0).astype(np.float32)
        spoken = self._speak(index)
        if index not in self._recordings:
            self._recordings[index] = analyse(recording, rate_hz)
        distance = compare(self._recordings[index], analyse(spoken, rate_hz), aligned=False)
        return {**vars(distance), "duration_error": relative_length_error(len(recording), len(spoken))}

    @torch.no_grad()
    def _speak(self, index: int) -> npt.NDArray[np.float32]:
        """Return the waveform (S,) spoken with the EMA weights."""
        batch, _ = self.validator.batch(index)
        with isolated_random_state(self.validator.trainer.device):
            output = self.validator.speak(batch, **self.style)
        waveform: npt.NDArray[np.float32] = output.waveform[0, 0].float().cpu().numpy()
        return waveform
