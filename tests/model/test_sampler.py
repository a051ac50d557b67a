"""Batches: each utterance once an epoch, the same plan everywhere, equal work for the ranks."""

import numpy as np
import pytest

from model.sampler import BatchSampler, padding_share


def lengths(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 900, n)


def sampler(n: int = 501, **options) -> BatchSampler:
    return BatchSampler(lengths(n), **{"batch_size": 8, "max_batch_frames": 100_000, "seed": 1, **options})


def test_every_utterance_comes_exactly_once_an_epoch():
    planned = [index for batch in sampler().epoch(0) for index in batch]
    assert sorted(planned) == list(range(501))


def test_a_plan_depends_on_seed_and_epoch_alone():
    assert sampler().epoch(3) == sampler().epoch(3)
    assert sampler().epoch(3) != sampler().epoch(4)
    assert sampler().epoch(3) != sampler(seed=2).epoch(3)


def test_batches_keep_both_limits():
    n_frames = lengths(501)
    for batch in sampler(max_batch_frames=3000).epoch(0):
        assert len(batch) <= 8
        assert len(batch) * n_frames[batch].max() <= 3000 or len(batch) == 1


def test_an_utterance_longer_than_the_limit_is_a_batch_of_its_own():
    plan = BatchSampler(np.array([50, 5000, 60]), batch_size=4, max_batch_frames=1000, seed=0).epoch(0)
    assert [1] in plan
    assert sorted(index for batch in plan for index in batch) == [0, 1, 2]


@pytest.mark.parametrize("n_ranks", [2, 3, 8])
def test_ranks_get_equally_many_batches_and_repeat_as_few_as_that_needs(n_ranks):
    plans = [sampler(rank=rank, n_ranks=n_ranks).epoch(5) for rank in range(n_ranks)]
    assert len({len(plan) for plan in plans}) == 1
    dealt = [tuple(batch) for plan in plans for batch in plan]
    single = {tuple(batch) for batch in sampler().epoch(5)}
    assert set(dealt) == single
    assert len(dealt) - len(single) == -len(single) % n_ranks


def test_ranks_of_one_step_get_batches_of_similar_length():
    n_frames = lengths(2000)
    plans = [sampler(2000, rank=rank, n_ranks=2).epoch(0) for rank in range(2)]
    together = [abs(n_frames[a].max() - n_frames[b].max()) for a, b in zip(*plans, strict=True)]
    assert np.mean(together) < 60


def test_padding_is_small_because_batches_hold_similar_lengths():
    n_frames = lengths(4000)
    in_order = [list(range(start, start + 8)) for start in range(0, 4000, 8)]
    assert padding_share(n_frames, sampler(4000).epoch(0)) < 0.08 < 0.3 < padding_share(n_frames, in_order)
