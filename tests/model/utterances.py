"""Utterances in memory, and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model.training.dataset import Batch, BatchBuffers, BatchDataset, IntArray, fill_samples


@dataclass(frozen=True)
class Utterance:
    """One utterance in memory: phone_ids, tone_ids, language_ids (P,); by language bert (P, C) fp16, zero on the phones
    of others;
    linear (T, F) fp16 magnitudes; pcm (S,) int16; speaker_id 0 where there is one speaker."""

    phone_ids: IntArray
    tone_ids: IntArray
    language_ids: IntArray
    bert: Mapping[str, npt.NDArray[np.float16]]
    linear: npt.NDArray[np.float16]
    pcm: npt.NDArray[np.int16]
    speaker_id: int


class UtterancesInMemory:
    """Utterances that are there already; satisfies `UtteranceSource`."""

    pitch: Sequence[npt.NDArray[np.float32]] | None = None

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._utterances = utterances
        self.n_frames = np.array([len(utterance.linear) for utterance in utterances])
        self.n_phones = np.array([len(utterance.phone_ids) for utterance in utterances])
        self.n_frequencies = utterances[0].linear.shape[1]

    def load(self, indices: IntArray, buffers: BatchBuffers) -> None:
        """Copy utterances into `buffers`."""
        for values in (*buffers.bert.values(), buffers.linear):
            values.fill(0)
        for row, index in enumerate(indices):
            own = self._utterances[index]
            buffers.ids[:, row, : len(own.phone_ids)] = own.phone_ids, own.tone_ids, own.language_ids
            buffers.speaker_ids[row] = own.speaker_id
            buffers.linear[row, : len(own.linear)] = own.linear
            fill_samples(buffers.pcm[row], own.pcm)
            for language, features in own.bert.items():
                buffers.bert[language][row, : len(features)] = features


def collate(
    utterances: Sequence[Utterance], indices: Sequence[int], bert_channels: Mapping[str, int], hop_samples: int
) -> Batch:
    """Return some of the utterances in memory as a batch on the CPU."""
    return BatchDataset(UtterancesInMemory(utterances), [indices], bert_channels, hop_samples)[0].to(
        torch.device("cpu")
    )
