"""Training batches from any source of utterances: one dataset item is a whole batch, in the precision of the shards.

Widening to float32 is left to the device, which gets half the bytes; every number is the same.

Legend: B batch, P phones, T frames, S samples, C channels. Files and manifests are the source's business.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

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


@dataclass(frozen=True)
class Room:
    """Where an utterance's numbers belong in a batch: linear (T, F) fp16; pcm int16, to be cut, or filled up with zeros."""

    linear: npt.NDArray[np.float16]
    pcm: npt.NDArray[np.int16]


class UtteranceSource(Protocol):
    """Random access to utterances; sizes are known without loading anything."""

    @property
    def n_frames(self) -> npt.NDArray[np.int64]: ...

    @property
    def n_phones(self) -> npt.NDArray[np.int64]: ...

    @property
    def n_frequencies(self) -> int: ...

    def load(self, index: int, room: Room | None = None) -> Utterance:
        """Read an utterance, its frames and samples straight into `room` if there is one."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Padded:
    """What a batch of B utterances holds, in whichever precision and layout."""

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


@dataclass(frozen=True, kw_only=True)
class Batch(_Padded):
    """Padded tensors of B utterances: `indices` (B,) into the source; `linear` (B, n_fft/2 + 1, T); `waveform` (B, S);
    `pitch` (B, 2, T) or None."""

    def inputs(self, spectrogram: Tensor, *, with_speakers: bool, durations: Tensor | None = None) -> SynthesizerInputs:
        """Return the synthesizer's view of the batch, with the posterior's input (B, C, T) and known durations (B, P)."""
        return SynthesizerInputs(
            phone_ids=self.phone_ids, phone_lengths=self.phone_lengths, tone_ids=self.tone_ids,
            language_ids=self.language_ids, bert=self.bert, spectrogram=spectrogram,
            spectrogram_lengths=self.frame_lengths, speaker_ids=self.speaker_ids if with_speakers else None,
            durations=durations,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StoredBatch(_Padded):
    """A batch of B utterances as the shards hold them, padded with zeros: `linear` (B, T, F) fp16, `waveform` (B, S) int16,
    `bert` (B, P, C) fp16 by language, the rest as in `Batch`."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`, as the networks take it."""
        narrow = {"bert", "linear", "waveform"}
        moved = {field.name: value.to(device, non_blocking=True) for field in fields(self)
                 if field.name not in narrow and isinstance(value := getattr(self, field.name), Tensor)}  # fmt: skip
        return Batch(
            **moved, linear=_widened(self.linear, device).transpose(1, 2),  # (B, T, F) → (B, F, T)
            waveform=_widened(self.waveform, device).div_(PCM_SCALE),
            bert={name: _widened(value, device).transpose(1, 2) for name, value in self.bert.items()},  # (B, P, C) → (B, C, P)
        )  # fmt: skip


def _widened(values: Tensor, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return values.to(device, non_blocking=True).float()
    # NumPy's memory lies on huge pages: a page fault for each small one would take longer than the conversion.
    return torch.from_numpy(np.empty(values.shape, dtype=np.float32)).copy_(values)


@dataclass(eq=False)
class _Block:
    memory: npt.NDArray[np.uint8]
    holder: weakref.ref[npt.NDArray[Any]] | None = None

    @property
    def is_free(self) -> bool:
        return self.holder is None or self.holder() is None


class _Memory:
    """Arrays of any content for one batch after another. What no batch holds any more is given out again: page faults of new
    memory take longer than reading into it."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []

    def __getstate__(self) -> dict[str, list[_Block]]:
        return {"_blocks": []}

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return an array that nobody else uses."""
        count = math.prod(shape)
        free = [block for block in self._blocks if block.is_free]
        block = next((block for block in free if block.memory.nbytes >= count * dtype.itemsize), None)
        if block is None:  # a larger one takes the place of all that are free
            block = _Block(np.empty(count * dtype.itemsize, dtype=np.uint8))
            self._blocks = [other for other in self._blocks if other not in free] + [block]
        # Views of it, whether NumPy's or torch's, keep this very array alive, since it has its memory from no other array.
        held = np.frombuffer(block.memory.data, dtype, count)
        block.holder = weakref.ref(held)
        return held.reshape(shape)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return such an array, full of zeros."""
        array = self.array(shape, dtype)
        array.fill(0)
        return array


class _Padding:
    """A batch in the making: rows of zeros that utterances are written into."""

    def __init__(self, memory: _Memory, n_batch: int, n_phones: int, n_frames: int, n_frequencies: int, hop_samples: int) -> None:
        self.memory = memory
        self.ids = np.zeros((3, n_batch, n_phones), dtype=np.int64)
        self.linear = memory.array((n_batch, n_frames, n_frequencies), np.dtype(np.float16))
        self.waveform = memory.array((n_batch, n_frames * hop_samples), np.dtype(np.int16))
        self.utterances: list[Utterance] = []

    def room(self, row: int, n_frames: int) -> Room:
        """Return a row's room for an utterance of `n_frames`; what is left of its frames is zero."""
        self.linear[row, n_frames:] = 0
        return Room(self.linear[row, :n_frames], self.waveform[row])

    def add(self, utterance: Utterance) -> None:
        """Take the next row's utterance, whose frames and samples are in their room."""
        row = len(self.utterances)
        for plane, values in enumerate((utterance.phone_ids, utterance.tone_ids, utterance.language_ids)):
            self.ids[plane, row, : len(values)] = values
        self.utterances.append(utterance)

    def batch(self, indices: Sequence[int], bert_channels: Mapping[str, int]) -> StoredBatch:
        """Return the full batch."""
        own = self.utterances
        bert = spread([utterance.bert for utterance in own], bert_channels, self.ids.shape[2], self.memory.zeros)
        phone_ids, tone_ids, language_ids = torch.from_numpy(self.ids)
        scalars = [(index, len(each.phone_ids), len(each.linear), each.speaker_id) for index, each in zip(indices, own, strict=True)]
        row_indices, phone_lengths, frame_lengths, speaker_ids = torch.from_numpy(np.array(scalars).T.copy())
        return StoredBatch(
            indices=row_indices, phone_ids=phone_ids, phone_lengths=phone_lengths, tone_ids=tone_ids, language_ids=language_ids,
            bert={name: torch.from_numpy(plane) for name, plane in bert.items()}, linear=torch.from_numpy(self.linear),
            frame_lengths=frame_lengths, waveform=torch.from_numpy(self.waveform), speaker_ids=speaker_ids, pitch=self._pitch(),
        )  # fmt: skip

    def _pitch(self) -> Tensor | None:
        if self.utterances[0].pitch is None:
            return None
        pitch = torch.zeros(len(self.utterances), PITCH_ROWS, self.linear.shape[1])
        for row, utterance in enumerate(self.utterances):
            if utterance.pitch is not None:
                pitch[row, :, : utterance.pitch.shape[1]] = torch.from_numpy(utterance.pitch)
        return pitch


def collate(indices: Sequence[int], utterances: Sequence[Utterance], bert_channels: Mapping[str, int], hop_samples: int) -> Batch:
    """Pad utterances to one batch; a language's BERT features are zero on the phones of others, and a language missing
    from `bert_channels` is left out."""
    n_phones = max(len(utterance.phone_ids) for utterance in utterances)
    n_frames = max(len(utterance.linear) for utterance in utterances)
    padding = _Padding(_Memory(), len(utterances), n_phones, n_frames, utterances[0].linear.shape[1], hop_samples)
    for row, utterance in enumerate(utterances):
        room = padding.room(row, len(utterance.linear))
        room.linear[:] = utterance.linear
        fill_samples(room.pcm, utterance.pcm)
        padding.add(utterance)
    return padding.batch(indices, bert_channels).to(torch.device("cpu"))


def fill_samples(room: npt.NDArray[np.int16], pcm: npt.NDArray[np.int16]) -> None:
    """Copy samples into their room: what is too much is cut, what is missing is zero."""
    room[: len(pcm)] = pcm[: len(room)]
    room[len(pcm) :] = 0


class BatchDataset(Dataset[StoredBatch]):
    """The batches of one epoch, in order; give it to a DataLoader with `batch_size=None`."""

    def __init__(
        self, source: UtteranceSource, batches: Sequence[Sequence[int]], bert_channels: Mapping[str, int], hop_samples: int
    ) -> None:
        self.source = source
        self.batches = batches
        self.bert_channels = bert_channels
        self.hop_samples = hop_samples
        self._memory = _Memory()

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> StoredBatch:
        indices, source = self.batches[position], self.source
        n_frames = source.n_frames[indices]
        n_phones = int(source.n_phones[indices].max())
        padding = _Padding(self._memory, len(indices), n_phones, int(n_frames.max()), source.n_frequencies, self.hop_samples)
        for row, index in enumerate(indices):
            padding.add(source.load(index, padding.room(row, n_frames[row])))
        return padding.batch(indices, self.bert_channels)
