"""Validation: the weights to keep, measured on the whole validation set, which the ranks share."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from model.dataset import Batch, BatchDataset
from model.spectrogram_torch import log_mel_spectrogram
from model.synthesizer import Synthesizer
from model.training import Trainer
from stages.common.training_data import CorpusFacts, ManifestSource
from stages.training.durations import Durations, padded_durations
from stages.training.state import gather

CEPSTRUM_ORDER = 24


class Validator:
    """Measures a trainer's weights to keep, one utterance at a time, without disturbing its random numbers."""

    def __init__(self, trainer: Trainer, source: ManifestSource, facts: CorpusFacts, durations: Durations | None) -> None:
        self.trainer = trainer
        self.source = source
        self.facts = facts
        self.durations = durations
        self._network: Synthesizer | None = None
        self._network_step = -1

    def network(self) -> Synthesizer:
        """Return a network that holds the current weights to keep, in evaluation mode."""
        if self._network is None:
            self._network = copy.deepcopy(self.trainer.synthesizer).eval()
        if self._network_step != self.trainer.step_count:
            self._network.load_state_dict(self.trainer.voice_state())
            self._network_step = self.trainer.step_count
        return self._network

    def batch(self, index: int) -> tuple[Batch, Tensor | None]:
        """Return one utterance as a batch, and its durations (1, P) where they are known."""
        batch = BatchDataset(self.source, [[index]], self.facts.bert_channels, self.facts.spectrogram.hop_samples)[0].to(self.trainer.device)
        return batch, padded_durations(self.durations, batch)

    def values(self, rank: int, n_ranks: int) -> dict[str, float]:
        """Return the means over all utterances; every rank measures some, all know the result.

        The sum runs in the order of the utterances and is exact, so that the number of ranks does not matter.
        """
        own = {index: self._measure(index) for index in range(rank, len(self.source), n_ranks)}
        measured = {index: values for share in gather(own) for index, values in share.items()}
        names = sorted({name for values in measured.values() for name in values})
        return {name: math.fsum(values[name] for values in measured.values()) / len(measured) for name in names}

    @torch.no_grad()
    def _measure(self, index: int) -> dict[str, float]:
        batch, durations = self.batch(index)
        values = self.trainer.evaluate(batch, durations)
        return {**values, "mcd": float(mel_cepstral_distortion(self._log_mel(batch.waveform), self._log_mel(self.resynthesis(batch))))}

    @torch.no_grad()
    def resynthesis(self, batch: Batch) -> Tensor:
        """Return recordings (B, S) after the posterior encoder and the decoder."""
        with_speakers = self.trainer.synthesizer.config.n_speakers > 0
        spectrogram = self.trainer.posterior_input(batch.linear)
        return self.network().reconstruct(spectrogram, batch.frame_lengths, batch.speaker_ids if with_speakers else None).squeeze(1)

    def _log_mel(self, waveform: Tensor) -> Tensor:
        return log_mel_spectrogram(waveform, self.trainer.spectrogram, self.trainer.filterbank)


def mel_cepstral_distortion(reference: Tensor, other: Tensor) -> Tensor:
    """Return the mean distance in dB of two log-mel spectrograms (B, C, T) that are aligned frame by frame.

    (10 / ln 10) · sqrt(2 Σ_{m=1..24} (c_m − c'_m)²), the level c_0 left out (Kubichek 1993, Mel-cepstral distance measure
    for objective speech quality assessment); c_m are the cosine series of the natural log amplitude over the bands.
    """
    n_bands = reference.shape[1]
    orders = torch.arange(1, min(CEPSTRUM_ORDER, n_bands - 1) + 1, dtype=torch.float64).unsqueeze(1)
    middles = (torch.arange(n_bands, dtype=torch.float64) + 0.5) / n_bands
    basis = (2 / n_bands * torch.cos(math.pi * orders * middles)).to(reference)
    difference = basis @ (reference - other)  # (M, C) @ (B, C, T) → (B, M, T)
    return 10 / math.log(10) * (2 * difference.square().sum(1)).sqrt().mean()
