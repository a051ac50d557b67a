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

from model.audio.spectrogram import INT16_SCALE
from model.config import PITCH_ROWS
from model.synthesizer import SynthesizerInputs

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class BatchBuffers:
    """Arrays of a batch for a source to fill: phone, tone and language ids (3, B, P) and speaker_ids (B,), zeros at
    first; by language
    bert (B, P, C) fp16, linear (B, T, F) fp16 magnitudes and pcm (B, S) int16, full of anything at first."""

    ids: IntArray
    speaker_ids: IntArray
    bert: Mapping[str, npt.NDArray[np.float16]]
    linear: npt.NDArray[np.float16]
    pcm: npt.NDArray[np.int16]


class UtteranceSource(Protocol):
    """Random access to utterances, a batch at a time; sizes are known without loading anything."""

    @property
    def n_frames(self) -> IntArray: ...

    @property
    def n_phones(self) -> IntArray: ...

    @property
    def n_frequencies(self) -> int: ...

    @property
    def pitch(self) -> Sequence[npt.NDArray[np.float32]] | None:
        """Pitch (2, T) of every utterance, for models that read it."""
        ...

    def load(self, indices: IntArray, buffers: BatchBuffers) -> None:
        """Read utterances into the rows of `buffers`: samples that are too many are cut, what an utterance does not fill
        is zero.
        """
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
            phone_ids=self.phone_ids,
            phone_lengths=self.phone_lengths,
            tone_ids=self.tone_ids,
            language_ids=self.language_ids,
            bert=self.bert,
            spectrogram=spectrogram,
            spectrogram_lengths=self.frame_lengths,
            speaker_ids=self.speaker_ids if with_speakers else None,
            durations=durations,
        )


@dataclass(frozen=True, kw_only=True)
class StoredBatch(_Padded):
    """A batch of B utterances as the shards hold them, padded with zeros: `linear` (B, T, F) fp16, `waveform` (B, S)
    int16,
    `bert` (B, P, C) fp16 by language, the rest as in `Batch`."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`, as the networks take it."""
        narrow = {"bert", "linear", "waveform"}
        moved = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if field.name not in narrow and isinstance(value := getattr(self, field.name), Tensor)
        }
        return Batch(
            **moved,
            linear=_widened(self.linear, device).transpose(1, 2),  # (B, T, F) → (B, F, T)
            waveform=_widened(self.waveform, device).div_(INT16_SCALE),
            bert={
                name: _widened(value, device).transpose(1, 2) for name, value in self.bert.items()
            },  # (B, P, C) → (B, C, P)
        )


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
    """Arrays of any content for one batch after another. What no batch holds any more is given out again: page faults
    of new
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
        # Views of it, whether NumPy's or torch's, keep this very array alive, since it has its memory from no other
        # array.
        held = np.frombuffer(block.memory.data, dtype, count)
        block.holder = weakref.ref(held)
        return held.reshape(shape)


def fill_samples(buffers: npt.NDArray[np.int16], pcm: npt.NDArray[np.int16]) -> None:
    """Copy samples into their buffers: what is too much is cut, what is missing is zero."""
    buffers[: len(pcm)] = pcm[: len(buffers)]
    buffers[len(pcm) :] = 0


class BatchDataset(Dataset[StoredBatch]):
    """The batches of one epoch, in order; give it to a DataLoader with `batch_size=None`.

    A language's BERT features are zero on the phones of others; a language missing from `bert_channels` is left out.
    """

    def __init__(
        self,
        source: UtteranceSource,
        batches: Sequence[Sequence[int]],
        bert_channels: Mapping[str, int],
        hop_samples: int,
    ) -> None:
        self.source = source
        self.batches = batches
        self.bert_channels = bert_channels
        self.hop_samples = hop_samples
        self._memory = _Memory()

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> StoredBatch:
        indices, source = np.array(self.batches[position], dtype=np.int64), self.source
        n_phones, n_frames = source.n_phones[indices], source.n_frames[indices]
        buffers = self._buffers(len(indices), int(n_phones.max()), int(n_frames.max()))
        source.load(indices, buffers)
        phone_ids, tone_ids, language_ids = torch.from_numpy(buffers.ids)
        return StoredBatch(
            indices=torch.from_numpy(indices),
            phone_ids=phone_ids,
            phone_lengths=torch.from_numpy(n_phones),
            tone_ids=tone_ids,
            language_ids=language_ids,
            bert={name: torch.from_numpy(plane) for name, plane in buffers.bert.items()},
            linear=torch.from_numpy(buffers.linear),
            frame_lengths=torch.from_numpy(n_frames),
            waveform=torch.from_numpy(buffers.pcm),
            speaker_ids=torch.from_numpy(buffers.speaker_ids),
            pitch=self._pitch(indices, int(n_frames.max())),
        )

    def _buffers(self, n_batch: int, n_phones: int, n_frames: int) -> BatchBuffers:
        half, array = np.dtype(np.float16), self._memory.array
        return BatchBuffers(
            ids=np.zeros((3, n_batch, n_phones), dtype=np.int64),
            speaker_ids=np.zeros(n_batch, dtype=np.int64),
            linear=array((n_batch, n_frames, self.source.n_frequencies), half),
            pcm=array((n_batch, n_frames * self.hop_samples), np.dtype(np.int16)),
            bert={name: array((n_batch, n_phones, size), half) for name, size in self.bert_channels.items()},
        )

    def _pitch(self, indices: IntArray, n_frames: int) -> Tensor | None:
        if self.source.pitch is None:
            return None
        padded = torch.zeros(len(indices), PITCH_ROWS, n_frames)
        for row, index in enumerate(indices):
            pitch = self.source.pitch[index]
            padded[row, :, : pitch.shape[1]] = torch.from_numpy(pitch)
        return padded
