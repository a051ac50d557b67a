"""Validation of the EMA weights on the whole validation set, distributed over the ranks."""

from __future__ import annotations

import math

from torch import Tensor

from model.synthesizer import InferenceOutput
from model.training.dataset import Batch, BatchDataset
from model.training.trainer import Trainer
from stages.train.durations import Durations, padded_durations
from stages.train.manifest_source import CorpusFacts, ManifestSource
from stages.train.state import gather

MAX_LENGTHENING = 2  # of spoken over recorded length; untrained durations are unbounded


class Validator:
    """Measurement of a trainer's EMA weights, one utterance at a time, that leaves its random state as it was."""

    def __init__(
        self, trainer: Trainer, source: ManifestSource, facts: CorpusFacts, durations: Durations | None
    ) -> None:
        self.trainer = trainer
        self.source = source
        self.facts = facts
        self.durations = durations

    def batch(self, index: int) -> tuple[Batch, Tensor | None]:
        """Return one utterance as a batch, and its durations (1, P); None if the aligner is off."""
        batch = BatchDataset(self.source, [[index]], self.facts.bert_channels, self.facts.spectrogram.hop_samples)[
            0
        ].to(self.trainer.device)
        return batch, padded_durations(self.durations, batch)

    def values(self, rank: int, n_ranks: int) -> dict[str, float]:
        """Return the means over all utterances; each rank measures a share, all return the result.

        The sums are exact, so the number of ranks does not change the result.
        """
        own = {index: self._measure(index) for index in range(rank, len(self.source), n_ranks)}
        measured = {index: values for share in gather(own) for index, values in share.items()}
        names = sorted({name for values in measured.values() for name in values})
        return {name: math.fsum(values[name] for values in measured.values()) / len(measured) for name in names}

    def speak(self, batch: Batch, **style: float) -> InferenceOutput:
        """Return a batch's text spoken with the EMA weights (style: `Synthesizer.infer`); draws random numbers."""
        network = self.trainer.voice_network()
        spectrogram = self.trainer.posterior_input(batch)
        return network.infer(
            batch.phone_ids,
            batch.phone_lengths,
            batch.tone_ids,
            batch.language_ids,
            batch.bert,
            batch.speaker_ids if network.config.n_speakers else None,
            max_frames=MAX_LENGTHENING * spectrogram.shape[2],
            reference_spectrogram=spectrogram,
            **style,
        )

    def _measure(self, index: int) -> dict[str, float]:
        return self.trainer.evaluate(*self.batch(index))
