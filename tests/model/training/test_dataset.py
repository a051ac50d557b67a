"""Batches as the loader hands them over: what the utterances are, padded with zeros, in memory that no other batch
holds.
"""

from __future__ import annotations

import pickle

import numpy as np
import torch

from model.training.dataset import BatchDataset
from tests.model.utterances import Utterance, UtterancesInMemory, collate

HOP, N_FREQUENCIES = 4, 3
SIZES = [(2, 5), (4, 3), (3, 9), (2, 2)]  # phones, frames


def utterance(number: int) -> Utterance:
    n_phones, n_frames = SIZES[number]
    rng = np.random.default_rng(number)
    ids = rng.integers(1, 9, (3, n_phones))
    return Utterance(
        phone_ids=ids[0],
        tone_ids=ids[1],
        language_ids=ids[2],
        speaker_id=number,
        bert={"EN": rng.standard_normal((n_phones, 2)).astype(np.float16)},
        linear=rng.random((n_frames, N_FREQUENCIES)).astype(np.float16),
        pcm=rng.integers(-99, 99, n_frames * HOP + 1).astype(np.int16),
    )


UTTERANCES = [utterance(number) for number in range(len(SIZES))]


def dataset(batches: list[list[int]]) -> BatchDataset:
    return BatchDataset(UtterancesInMemory(UTTERANCES), batches, {"EN": 2}, HOP)


def test_a_batch_is_what_its_utterances_are_when_padded() -> None:
    batch = collate(UTTERANCES, [0, 2, 1], {"EN": 2}, HOP)
    assert batch.indices.tolist() == batch.speaker_ids.tolist() == [0, 2, 1] and batch.pitch is None
    assert batch.phone_lengths.tolist() == [2, 3, 4] and batch.frame_lengths.tolist() == [5, 9, 3]
    assert batch.linear.shape == (3, N_FREQUENCIES, 9) and batch.waveform.shape == (3, 9 * HOP)
    for row, each in enumerate(UTTERANCES[index] for index in (0, 2, 1)):
        n_phones, n_frames = len(each.phone_ids), len(each.linear)
        for name in ("phone_ids", "tone_ids", "language_ids"):
            assert np.array_equal(getattr(batch, name)[row], np.pad(getattr(each, name), (0, 4 - n_phones))), name
        assert np.array_equal(batch.bert["EN"][row].T, np.pad(each.bert["EN"], ((0, 4 - n_phones), (0, 0))))
        assert np.array_equal(batch.linear[row].T, np.pad(each.linear, ((0, 9 - n_frames), (0, 0))))
        assert np.array_equal(batch.waveform[row] * 32768, np.pad(each.pcm, (0, 9 * HOP))[: 9 * HOP])


def test_pitch_is_padded_where_the_source_has_it() -> None:
    batches = dataset([[3, 0]])
    batches.source.pitch = [
        np.full((2, n_frames), number + 1, np.float32) for number, (_, n_frames) in enumerate(SIZES)
    ]
    assert batches[0].pitch.tolist() == [[[4, 4, 0, 0, 0]] * 2, [[1] * 5] * 2]


def test_the_precision_is_that_of_the_shards_until_the_batch_is_on_its_device() -> None:
    stored = dataset([[0, 1]])[0]
    assert (stored.linear.dtype, stored.waveform.dtype, stored.bert["EN"].dtype) == (
        torch.float16,
        torch.int16,
        torch.float16,
    )
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
