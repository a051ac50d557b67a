"""Validation by ear: utterances spoken from their text by the weights to keep, measured as the evaluation measures them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model.random_draws import random_state_undisturbed
from stages.common.progress import progress_bar
from stages.measuring.choosing import evenly_spread
from stages.measuring.mos import MosPredictor
from stages.measuring.signal_metrics import SignalFeatures, analyse, compare, relative_length_error
from stages.measuring.speech_recognition import SpeechRecogniser, count_errors
from stages.measuring.spoken_units import separator_of, words_of
from stages.measuring.whisper_model import assemble_whisper
from stages.training.settings import HEARD_METRICS, MetricsParams
from stages.training.state import from_first_rank, gather
from stages.training.validation import Validator

logger = logging.getLogger(__name__)

Row = dict[str, Any]


class SpokenMetrics:
    """Speaks utterances spread evenly over the validation set, always the same with the same noise, and measures them."""

    def __init__(self, validator: Validator, params: MetricsParams, style: Mapping[str, float], whisper_cache: Path, rank: int) -> None:
        """Load what `params` needs; all ranks do it together. `style` is how the voice speaks (see `own_style`).

        Raises PipelineError for a package that is not there.
        """
        self.validator = validator
        self.style = style
        self.indices = evenly_spread(len(validator.source), params.utterances)
        self._recordings: dict[int, SignalFeatures | str] = {}
        heard = params.listen_for if params.listen_every else ()
        self._recognise: SpeechRecogniser | None = None
        if "cer" in heard:
            self._recognise = SpeechRecogniser(from_first_rank(assemble_whisper(whisper_cache) if rank == 0 else None))
        with random_state_undisturbed(validator.trainer.device):  # a network draws its weights before it gets its own
            self._predict_mos = MosPredictor() if "mos" in heard else None

    def figures(self, keys: Sequence[str], rank: int, n_ranks: int) -> dict[str, float]:
        """Return metric → figure over the spoken utterances; every rank measures some, all know the result.

        A metric that any utterance lacks is left out and logged: over fewer utterances it would not compare with other steps.
        """
        if not keys:
            return {}
        own = {index: self._measure(index, keys) for index in self._shown(self.indices[rank::n_ranks], keys, rank)}
        measured = {index: row for share in gather(own) for index, row in share.items()}
        rows = [measured[index] for index in self.indices]
        unknown = [key for key in keys if not all(math.isfinite(row[key]) for row in rows)]
        if unknown and rank == 0:
            reasons = sorted({row["reason"] for row in rows} - {""})
            logger.info("train: step %d: cannot measure %s: %s", self.validator.trainer.step_count, ", ".join(unknown), "; ".join(reasons))
        return {key: _figure(key, rows) for key in keys if key not in unknown}

    @staticmethod
    def _shown(indices: Sequence[int], keys: Sequence[str], rank: int) -> Iterator[int]:
        """Yield indices behind a progress bar, where networks listen."""
        with progress_bar("listening", len(indices), "utterance", leave=False, disable=rank != 0 or not set(keys) & set(HEARD_METRICS)) as bar:
            for index in indices:
                yield index
                bar.update(1)

    def _measure(self, index: int, keys: Sequence[str]) -> Row:
        rate_hz = self.validator.facts.spectrogram.sample_rate_hz
        recording = (self.validator.source.pcm(index) / 32768.0).astype(np.float32)
        spoken = self._speak(index)
        if index not in self._recordings:
            self._recordings[index] = analyse(recording, rate_hz)
        distance = compare(self._recordings[index], analyse(spoken, rate_hz), aligned=False)
        row: Row = {**vars(distance), "duration_error": relative_length_error(len(recording), len(spoken))}
        if set(keys) & set(HEARD_METRICS):
            row |= self._hear(index, spoken, rate_hz)
        return row

    @torch.no_grad()
    def _speak(self, index: int) -> npt.NDArray[np.float32]:
        """Return what the weights to keep say (S,)."""
        batch, _ = self.validator.batch(index)
        with random_state_undisturbed(self.validator.trainer.device):
            output = self.validator.speak(batch, **self.style)
        waveform: npt.NDArray[np.float32] = output.waveform[0, 0].float().cpu().numpy()
        return waveform

    def _hear(self, index: int, spoken: npt.NDArray[np.float32], rate_hz: int) -> Row:
        row: Row = {}
        if self._predict_mos:
            row["mos"] = self._predict_mos(spoken, rate_hz)
        if self._recognise:
            utterance = self.validator.source.row(index)
            language = utterance["language"]
            heard = self._recognise(spoken, rate_hz, language)
            errors = count_errors(words_of(utterance["text"], language), words_of(heard, language), separator_of(language))
            row |= {"cer": errors.character_error_rate, "character_edits": errors.character_edits, "characters": errors.characters}
        return row


def _figure(key: str, rows: Sequence[Row]) -> float:
    """Return a metric over utterances as the evaluation has it: the mean, but an error rate counts all edits over all characters."""
    if key == "cer":
        return float(sum(row["character_edits"] for row in rows) / sum(row["characters"] for row in rows))
    return float(np.mean([row[key] for row in rows]))
