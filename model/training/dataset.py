"""Training batches from any source of utterances: one dataset item is a whole batch, in the precision of the shards.

Conversion to float32 happens on the device, which halves the bytes transferred and changes no value. Reading files is
left to the source.

Legend: B batch, P phones, T frames, S samples, C channels, F frequencies.
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
    """Arrays of a batch for a source to fill.

    Phone, tone and language ids (3, B, P) and speaker_ids (B,) start as zeros. bert (B, P, C) fp16 by language, linear
    (B, T, F) fp16 magnitudes and pcm (B, S) int16 are uninitialised.
    """

    ids: IntArray
    speaker_ids: IntArray
    bert: Mapping[str, npt.NDArray[np.float16]]
    linear: npt.NDArray[np.float16]
    pcm: npt.NDArray[np.int16]


class UtteranceSource(Protocol):
    """Random access to utterances, a batch at a time; sizes are available without loading."""

    @property
    def n_frames(self) -> IntArray: ...

    @property
    def n_phones(self) -> IntArray: ...

    @property
    def n_frequencies(self) -> int: ...

    @property
    def pitch(self) -> Sequence[npt.NDArray[np.float32]] | None:
        """Return the pitch features (2, T) of every utterance, None for models without."""
        ...

    def load(self, indices: IntArray, buffers: BatchBuffers) -> None:
        """Read utterances into the rows of `buffers`, padding with zeros and cutting surplus samples."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Padded:
    """Fields of a batch of B utterances, common to both precisions and layouts."""

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
    """Padded float32 tensors of B utterances.

    `indices` (B,) into the source; `linear` (B, n_fft/2 + 1, T); `waveform` (B, S); `pitch` (B, 2, T) or None.
    """

    def inputs(self, spectrogram: Tensor, *, with_speakers: bool, durations: Tensor | None = None) -> SynthesizerInputs:
        """Return the synthesizer's inputs, given the posterior encoder's input (B, C, T) and durations (B, P)."""
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
    """Zero-padded batch of B utterances in the precision of the shards.

    `linear` (B, T, F) fp16, `waveform` (B, S) int16, `bert` (B, P, C) fp16 by language; the rest as in `Batch`.
    """

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device` in the layout of the networks."""
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
            # (B, P, C) → (B, C, P)
            bert={name: _widened(value, device).transpose(1, 2) for name, value in self.bert.items()},
        )


def _widened(values: Tensor, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return values.to(device, non_blocking=True).float()
    # NumPy allocates on huge pages; page faults of small ones would take longer than the conversion.
    return torch.from_numpy(np.empty(values.shape, dtype=np.float32)).copy_(values)


@dataclass(eq=False)
class _Block:
    memory: npt.NDArray[np.uint8]
    holder: weakref.ref[npt.NDArray[Any]] | None = None

    @property
    def is_free(self) -> bool:
        return self.holder is None or self.holder() is None


class _ArrayPool:
    """Pool of uninitialised arrays for consecutive batches.

    Memory that no batch references is reused, because page faults of new memory take longer than reading into it.
    """

    def __init__(self) -> None:
        self._blocks: list[_Block] = []

    def __getstate__(self) -> dict[str, list[_Block]]:
        return {"_blocks": []}

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return an array that no batch references."""
        count = math.prod(shape)
        free = [block for block in self._blocks if block.is_free]
        block = next((block for block in free if block.memory.nbytes >= count * dtype.itemsize), None)
        if block is None:  # a larger block replaces all free ones
            block = _Block(np.empty(count * dtype.itemsize, dtype=np.uint8))
            self._blocks = [other for other in self._blocks if other not in free] + [block]
        # NumPy and torch views keep this array alive, because it is the base of their memory.
        base = np.frombuffer(block.memory.data, dtype, count)
        block.holder = weakref.ref(base)
        return base.reshape(shape)


def fill_samples(buffer: npt.NDArray[np.int16], pcm: npt.NDArray[np.int16]) -> None:
    """Copy samples into a buffer, cut to its length or padded with zeros."""
    buffer[: len(pcm)] = pcm[: len(buffer)]
    buffer[len(pcm) :] = 0


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
        self._pool = _ArrayPool()

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
        half, array = np.dtype(np.float16), self._pool.array
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
