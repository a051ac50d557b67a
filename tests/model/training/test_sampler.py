"""Batches: each utterance once an epoch, the same plan everywhere, n ranks sharing what one process would read, equal
work for all.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.training.sampler import BatchSampler, padding_share

UNLIMITED = 10**9
EARLIER_BATCHES = [[1, 4], [0, 6, 2], [8, 3, 5], [9, 7]]
LENGTHS = st.lists(st.integers(1, 900), min_size=1, max_size=120).map(lambda values: np.array(values, dtype=np.int64))


def lengths(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 900, n)


def sampler(n: int = 501, **options: Any) -> BatchSampler:
    return BatchSampler(lengths(n), **{"batch_size": 8, "max_batch_frames": 100_000, "seed": 1, **options})


def unions(plan: BatchSampler, epoch: int) -> list[set[int]]:
    """Return the utterances of each step, of all ranks together."""
    return [{index for hand in step for index in hand} for step in plan.plan(epoch).steps]


def test_every_utterance_comes_exactly_once_an_epoch() -> None:
    planned = [index for batch in sampler().epoch(0) for index in batch]
    assert sorted(planned) == list(range(501))


def test_a_plan_depends_on_seed_and_epoch_alone() -> None:
    assert list(sampler().epoch(3)) == list(sampler().epoch(3))
    assert list(sampler().epoch(3)) != list(sampler().epoch(4))
    assert list(sampler().epoch(3)) != list(sampler(seed=2).epoch(3))


@settings(max_examples=150, deadline=None)
@given(
    n_frames=LENGTHS,
    n_ranks=st.integers(1, 4),
    batch_size=st.integers(1, 7),
    max_batch_frames=st.integers(1, 3000),
    epoch=st.integers(0, 3),
)
def test_whatever_the_lengths_nothing_is_lost_and_both_limits_hold(
    n_frames: np.ndarray, n_ranks: int, batch_size: int, max_batch_frames: int, epoch: int
) -> None:
    every = [BatchSampler(n_frames, batch_size, max_batch_frames, 5, rank, n_ranks) for rank in range(n_ranks)]
    plans = [each.epoch(epoch) for each in every]
    assert len({len(plan) for plan in plans}) == 1
    counts = Counter(index for plan in plans for batch in plan for index in batch)
    repeated = every[0].plan(epoch).repeated
    assert set(counts) == set(range(len(n_frames)))
    assert sum(counts.values()) == len(n_frames) + len(repeated)
    for plan in plans:
        for batch in plan:
            assert 1 <= len(batch) <= batch_size
            assert len(batch) == 1 or len(batch) * n_frames[batch].max() <= max_batch_frames


@settings(max_examples=100, deadline=None)
@given(n_frames=LENGTHS, n_ranks=st.integers(1, 4), batch_size=st.integers(1, 7), epoch=st.integers(0, 3))
def test_ranks_share_what_one_process_with_their_batches_together_reads(
    n_frames: np.ndarray, n_ranks: int, batch_size: int, epoch: int
) -> None:
    together = BatchSampler(n_frames, n_ranks * batch_size, UNLIMITED, 5)
    shared = BatchSampler(n_frames, batch_size, UNLIMITED, 5, n_ranks=n_ranks)
    assert unions(shared, epoch) == unions(together, epoch)


@settings(max_examples=100, deadline=None)
@given(n_frames=LENGTHS, n_ranks=st.integers(2, 4), batch_size=st.integers(1, 7), max_batch_frames=st.integers(1, 3000))
def test_utterances_are_repeated_only_where_there_are_too_few_for_the_ranks(
    n_frames: np.ndarray, n_ranks: int, batch_size: int, max_batch_frames: int
) -> None:
    plan = BatchSampler(n_frames, batch_size, max_batch_frames, 5, n_ranks=n_ranks).plan(0)
    # As few as steps of at least one utterance per rank allow.
    assert len(plan.repeated) == max(0, n_ranks * len(plan.steps) - len(n_frames))


def test_enough_utterances_need_no_repeats() -> None:
    for n in (501, 502, 503, 513):
        for n_ranks in (2, 3, 4):
            assert sampler(n, n_ranks=n_ranks).plan(0).repeated == ()


def test_an_utterance_beyond_the_limit_is_a_batch_by_itself_and_listed() -> None:
    made = BatchSampler(np.array([50, 5000, 60]), batch_size=4, max_batch_frames=1000, seed=0)
    plan = made.epoch(0)
    assert [1] in plan and made.too_long.tolist() == [1]
    assert sorted(index for batch in plan for index in batch) == [0, 1, 2]


def test_a_short_last_batch_shares_with_the_one_before() -> None:
    sizes = sorted(len(batch) for batch in sampler(8 * 20 + 1).epoch(0))
    assert sizes[0] >= 4 and sum(sizes) == 161


@pytest.mark.parametrize("n_ranks", [2, 3, 4])
def test_ranks_of_one_step_get_about_equal_frames(n_ranks: int) -> None:
    n_frames = lengths(2000)
    steps = sampler(2000, n_ranks=n_ranks).plan(0).steps
    padded = np.array([[len(hand) * n_frames[list(hand)].max() for hand in step] for step in steps])
    waiting = 1 - padded.mean(axis=1) / padded.max(axis=1)
    assert waiting.mean() < 0.01


def test_padding_is_small_because_batches_hold_similar_lengths() -> None:
    n_frames = lengths(4000)
    in_order = [list(range(start, start + 8)) for start in range(0, 4000, 8)]
    assert padding_share(n_frames, sampler(4000).epoch(0)) < 0.08 < 0.3 < padding_share(n_frames, in_order)


def test_padding_is_at_most_three_percent_from_a_few_thousand_utterances_on() -> None:
    for n in (3000, 20000):
        n_frames = np.clip(np.random.default_rng(n).lognormal(5.0, 0.6, n), 60, 1000).astype(np.int64)
        made = BatchSampler(n_frames, batch_size=24, max_batch_frames=24_000, seed=0)
        first, second = made.epoch(0), made.epoch(1)
        assert padding_share(n_frames, first) < 0.03 and padding_share(n_frames, second) < 0.03
        again = {frozenset(batch) for batch in first} & {frozenset(batch) for batch in second}
        assert len(again) < 0.1 * len(first)


def test_batches_of_a_small_corpus_are_unchanged() -> None:
    n_frames = np.array([90, 40, 75, 61, 33, 58, 82, 47, 69, 51])
    assert list(BatchSampler(n_frames, batch_size=3, max_batch_frames=1000, seed=4).epoch(2)) == EARLIER_BATCHES


def test_batches_are_computed_on_access() -> None:
    plan = sampler().epoch(0)
    every = list(plan)
    assert plan[3] == every[3] and plan[-1] == every[-1]
    assert list(plan[5:]) == every[5:] and list(plan[5:][1:4]) == every[6:9] and len(plan[5:]) == len(every) - 5
    with pytest.raises(IndexError):
        plan[len(every)]
