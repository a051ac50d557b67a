"""Validation: the weights to keep, measured on the whole validation set, which the ranks share."""

from __future__ import annotations

import math

from torch import Tensor

from model.synthesizer import InferenceOutput
from model.training.dataset import Batch, BatchDataset
from model.training.trainer import Trainer
from stages.train.durations import Durations, padded_durations
from stages.train.manifest_source import CorpusFacts, ManifestSource
from stages.train.state import gather

MAX_LENGTHENING = 2  # of what is spoken over what was recorded: untrained durations know no end


class Validator:
    """Measures a trainer's weights to keep, one utterance at a time, without disturbing its random numbers."""

    def __init__(
        self, trainer: Trainer, source: ManifestSource, facts: CorpusFacts, durations: Durations | None
    ) -> None:
        self.trainer = trainer
        self.source = source
        self.facts = facts
        self.durations = durations

    def batch(self, index: int) -> tuple[Batch, Tensor | None]:
        """Return one utterance as a batch, and its durations (1, P) where they are known."""
        batch = BatchDataset(self.source, [[index]], self.facts.bert_channels, self.facts.spectrogram.hop_samples)[
            0
        ].to(self.trainer.device)
        return batch, padded_durations(self.durations, batch)

    def values(self, rank: int, n_ranks: int) -> dict[str, float]:
        """Return the means over all utterances; every rank measures some, all know the result.

        The sum runs in the order of the utterances and is exact, so that the number of ranks does not matter.
        """
        own = {index: self._measure(index) for index in range(rank, len(self.source), n_ranks)}
        measured = {index: values for share in gather(own) for index, values in share.items()}
        names = sorted({name for values in measured.values() for name in values})
        return {name: math.fsum(values[name] for values in measured.values()) / len(measured) for name in names}

    def speak(self, batch: Batch, **style: float) -> InferenceOutput:
        """Return a batch's text spoken by the weights to keep in a style (see `Synthesizer.infer`); it draws random
        numbers.
        """
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
