"""Batches as the loader hands them over: what the utterances are, padded with zeros, in memory that no other batch holds."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import torch

from model.bert_pieces import bert_piece
from model.dataset import BatchDataset, Room, Utterance, collate, fill_samples

HOP, N_FREQUENCIES = 4, 3
SIZES = [(2, 5), (4, 3), (3, 9), (2, 2)]  # phones, frames


def utterance(number: int) -> Utterance:
    n_phones, n_frames = SIZES[number]
    rng = np.random.default_rng(number)
    ids = rng.integers(1, 9, (3, n_phones))
    return Utterance(
        phone_ids=ids[0], tone_ids=ids[1], language_ids=ids[2], speaker_id=number,
        bert=(bert_piece("EN", 0, [0] * n_phones, rng.standard_normal((1, 2)).astype(np.float16), False),),
        linear=rng.random((n_frames, N_FREQUENCIES)).astype(np.float16), pcm=rng.integers(-99, 99, n_frames * HOP + 1).astype(np.int16),
    )  # fmt: skip


class Source:
    """Four utterances in memory."""

    n_phones, n_frames = np.array(SIZES).T
    n_frequencies = N_FREQUENCIES

    def load(self, index: int, room: Room | None = None) -> Utterance:
        made = utterance(index)
        if room is None:
            return made
        room.linear[:] = made.linear
        fill_samples(room.pcm, made.pcm)
        return replace(made, linear=room.linear, pcm=room.pcm)


def dataset(batches: list[list[int]]) -> BatchDataset:
    return BatchDataset(Source(), batches, {"EN": 2}, HOP)


def test_a_loaded_batch_is_what_its_utterances_are_when_padded() -> None:
    loaded = dataset([[0, 2, 1]])[0].to(torch.device("cpu"))
    padded = collate([0, 2, 1], [utterance(index) for index in (0, 2, 1)], {"EN": 2}, HOP)
    for name in ("indices", "phone_ids", "phone_lengths", "tone_ids", "language_ids", "linear", "frame_lengths", "waveform", "speaker_ids"):
        assert torch.equal(getattr(loaded, name), getattr(padded, name)), name
    assert torch.equal(loaded.bert["EN"], padded.bert["EN"]) and loaded.pitch is None
    assert loaded.linear.shape == (3, N_FREQUENCIES, 9) and loaded.linear[0, :, 5:].eq(0).all() and loaded.linear[0, :, :5].all()
    assert loaded.waveform.shape == (3, 9 * HOP) and loaded.waveform[2, 3 * HOP + 1 :].eq(0).all()


def test_the_precision_is_that_of_the_shards_until_the_batch_is_on_its_device() -> None:
    stored = dataset([[0, 1]])[0]
    assert (stored.linear.dtype, stored.waveform.dtype, stored.bert["EN"].dtype) == (torch.float16, torch.int16, torch.float16)
    batch = stored.to(torch.device("cpu"))
    assert batch.linear.dtype == batch.waveform.dtype == batch.bert["EN"].dtype == torch.float32


def test_memory_is_used_again_only_when_nothing_of_its_batch_is_left() -> None:
    batches = dataset([[2], [0], [1], [3]])
    first = batches[0]
    kept, address = first.linear[0, 1:3], first.linear.data_ptr()
    before = kept.clone()
    del first
    second = batches[1]
    assert second.linear.data_ptr() != address and torch.equal(kept, before)
    del kept
    third = batches[2]
    assert third.linear.data_ptr() == address
    assert torch.equal(third.linear[0], torch.from_numpy(utterance(1).linear))


def test_a_pickled_dataset_leaves_its_memory_behind() -> None:
    batches = dataset([[2]])
    size = len(pickle.dumps(batches))
    held = batches[0]
    assert len(pickle.dumps(batches)) == size and len(held.indices) == 1
