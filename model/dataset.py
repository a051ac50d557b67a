"""Training batches from any source of utterances: one dataset item is a whole batch.

Legend: B batch, P phones, T frames, S samples, C channels. Files and manifests are the source's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.bert_pieces import BertPiece, spread
from model.config import PITCH_ROWS
from model.synthesizer import SynthesizerInputs

PCM_SCALE = 32768.0  # of 16-bit samples


@dataclass(frozen=True)
class Utterance:
    """One utterance as training reads it.

    phone_ids, tone_ids, language_ids (P,); bert: a piece for each
    span of one language that has features; linear (T, n_fft/2 + 1) fp16 magnitudes; pcm (S,) int16; speaker_id 0 where there is one;
    pitch (2, T) for models that read it.
    """

    phone_ids: npt.NDArray[np.int64]
    tone_ids: npt.NDArray[np.int64]
    language_ids: npt.NDArray[np.int64]
    bert: tuple[BertPiece, ...]
    linear: npt.NDArray[np.float16]
    pcm: npt.NDArray[np.int16]
    speaker_id: int
    pitch: npt.NDArray[np.float32] | None = None


class UtteranceSource(Protocol):
    """Random access to utterances; lengths are known without loading anything."""

    @property
    def n_frames(self) -> npt.NDArray[np.int64]: ...

    def load(self, index: int) -> Utterance: ...


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Padded tensors of B utterances: `indices` (B,) into the source; `linear` (B, n_fft/2 + 1, T); `waveform` (B, S);
    `pitch` (B, 2, T) or None."""

    indices: Tensor
    phone_ids: Tensor
    phone_lengths: Tensor
    tone_ids: Tensor
    language_ids: Tensor
    bert: Mapping[str, Tensor]
    linear: Tensor
    frame_lengths: Tensor
    waveform: Tensor
    speaker_ids: Tensor
    pitch: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        moved = {field.name: value.to(device, non_blocking=True) for field in fields(self)
                 if isinstance(value := getattr(self, field.name), Tensor)}  # fmt: skip
        return replace(self, **moved, bert={name: value.to(device, non_blocking=True) for name, value in self.bert.items()})

    def inputs(self, spectrogram: Tensor, *, with_speakers: bool, durations: Tensor | None = None) -> SynthesizerInputs:
        """Return the synthesizer's view of the batch, with the posterior's input (B, C, T) and known durations (B, P)."""
        return SynthesizerInputs(
            phone_ids=self.phone_ids, phone_lengths=self.phone_lengths, tone_ids=self.tone_ids,
            language_ids=self.language_ids, bert=self.bert, spectrogram=spectrogram,
            spectrogram_lengths=self.frame_lengths, speaker_ids=self.speaker_ids if with_speakers else None,
            durations=durations,
        )  # fmt: skip


def collate(indices: Sequence[int], utterances: Sequence[Utterance], bert_channels: Mapping[str, int], hop_samples: int) -> Batch:
    """Pad utterances to one batch; a language's BERT features are zero on the phones of others, and a language missing
    from `bert_channels` is left out."""
    n_phones = max(len(utterance.phone_ids) for utterance in utterances)
    n_frames = max(len(utterance.linear) for utterance in utterances)
    n_batch = len(utterances)
    ids = np.zeros((3, n_batch, n_phones), dtype=np.int64)
    # Padded as stored and widened by torch, whose conversions are several times faster than numpy's.
    linear = np.zeros((n_batch, n_frames, utterances[0].linear.shape[1]), dtype=np.float16)
    waveform = np.zeros((n_batch, n_frames * hop_samples), dtype=np.int16)
    pitch = np.zeros((n_batch, PITCH_ROWS, n_frames), dtype=np.float32)
    bert = spread([utterance.bert for utterance in utterances], bert_channels, n_phones)
    for row, utterance in enumerate(utterances):
        for plane, values in enumerate((utterance.phone_ids, utterance.tone_ids, utterance.language_ids)):
            ids[plane, row, : len(values)] = values
        linear[row, : len(utterance.linear)] = utterance.linear
        if utterance.pitch is not None:
            pitch[row, :, : utterance.pitch.shape[1]] = utterance.pitch
        n_samples = min(len(utterance.pcm), waveform.shape[1])
        waveform[row, :n_samples] = utterance.pcm[:n_samples]
    return Batch(
        indices=torch.tensor(list(indices)), phone_ids=torch.from_numpy(ids[0]), tone_ids=torch.from_numpy(ids[1]),
        language_ids=torch.from_numpy(ids[2]), phone_lengths=torch.tensor([len(u.phone_ids) for u in utterances]),
        bert={name: torch.from_numpy(value).float().transpose(1, 2) for name, value in bert.items()},  # (B, P, C) → (B, C, P)
        linear=torch.from_numpy(linear).float().transpose(1, 2), frame_lengths=torch.tensor([len(u.linear) for u in utterances]),
        waveform=torch.from_numpy(waveform).float().div_(PCM_SCALE), speaker_ids=torch.tensor([u.speaker_id for u in utterances]),
        pitch=None if utterances[0].pitch is None else torch.from_numpy(pitch),
    )  # fmt: skip


class BatchDataset(Dataset[Batch]):
    """The batches of one epoch, in order; give it to a DataLoader with `batch_size=None`."""

    def __init__(
        self, source: UtteranceSource, batches: Sequence[Sequence[int]], bert_channels: Mapping[str, int], hop_samples: int
    ) -> None:
        self.source = source
        self.batches = batches
        self.bert_channels = bert_channels
        self.hop_samples = hop_samples

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> Batch:
        indices = self.batches[position]
        return collate(indices, [self.source.load(index) for index in indices], self.bert_channels, self.hop_samples)
