"""Batches of utterances of similar length, the same on every machine for one seed and epoch.

Utterances are shuffled, cut into pools, sorted by (slightly jittered) length inside each pool and cut into global
batches, one per step, which are shuffled again. Each global batch is dealt to the ranks: n ranks of b utterances
share what one process with batches of n · b reads in that step. Every utterance comes once an epoch; only where a
global batch has fewer utterances than there are ranks are some repeated.

`max_batch_frames` protects the memory of one rank, so where it binds, a global batch depends on the number of ranks
too: one utterance may not be split.

A plan is a few arrays; a step's batches are dealt when they are asked for, so that an epoch of a million utterances
takes megabytes and is planned in a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt

# Up to so many utterances only jittered lengths keep the same ones from always meeting in a batch. In larger corpora
# neighbours lie closer, so that less jitter mixes them as well; from the second pool on the shuffle before pooling
# does.
SMALL_CORPUS = 1000
LENGTH_JITTER = 0.05  # relative, of a small corpus
POOL_BATCHES_OF_SMALL, POOL_BATCHES = 100, 400

RankBatch = tuple[int, ...]  # one rank's utterance indices in a step
ItemT = TypeVar("ItemT")


class LazySequence(Sequence[ItemT]):
    """The sequence make(0), make(1), … make(length - 1), each made whenever it is asked for."""

    def __init__(self, length: int, make: Callable[[int], ItemT]) -> None:
        self._positions = range(length)
        self._make = make

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, position: int) -> ItemT: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[ItemT]: ...
    def __getitem__(self, position: int | slice) -> ItemT | Sequence[ItemT]:
        if isinstance(position, slice):
            chosen = self._positions[position]
            return LazySequence(len(chosen), lambda index: self._make(chosen[index]))
        return self._make(self._positions[position])


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The batches of one epoch: global batch k is `order[starts[k] : ends[k]]`, utterance indices in order of falling
    jittered length.
    """

    n_frames: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    n_ranks: int

    @property
    def steps(self) -> Sequence[tuple[RankBatch, ...]]:
        """Return each step's utterance indices, rank by rank."""
        return LazySequence(len(self.starts), self._deal)

    def of_rank(self, rank: int) -> Sequence[list[int]]:
        """Return one rank's batches."""
        return LazySequence(len(self.starts), lambda step: list(self._deal(step)[rank]))

    @property
    def repeated(self) -> tuple[int, ...]:
        """Return the utterances that come twice, because their global batch has fewer than there are ranks."""
        short = np.flatnonzero(self.ends - self.starts < self.n_ranks)
        return tuple(index for step in short for index in self._repeats(self._global_batch(int(step))))

    def _global_batch(self, step: int) -> list[int]:
        return self.order[self.starts[step] : self.ends[step]].tolist()

    def _repeats(self, batch: Sequence[int]) -> list[int]:
        return [batch[index % len(batch)] for index in range(self.n_ranks - len(batch))]

    def _deal(self, step: int) -> tuple[RankBatch, ...]:
        """Deal a global batch to the ranks, to and fro from the longest down, so that they get about equal frames."""
        batch = self._global_batch(step)
        dealt = [*batch, *self._repeats(batch)]
        hands: list[list[int]] = [[] for _ in range(self.n_ranks)]
        by_length = sorted(dealt, key=lambda index: (-int(self.n_frames[index]), index))
        for start in range(0, len(by_length), self.n_ranks):
            cards = by_length[start : start + self.n_ranks]
            forth = (start // self.n_ranks) % 2 == 0 and len(
                cards
            ) == self.n_ranks  # a short last round starts where the batches are shortest
            for position, index in enumerate(cards):
                hands[position if forth else self.n_ranks - 1 - position].append(index)
        return tuple(tuple(hand) for hand in hands)


@dataclass(frozen=True)
class BatchSampler:
    """Plans epochs: `n_frames` (N,) per utterance, at most `batch_size` utterances and `max_batch_frames` padded
    frames in a rank's batch (an utterance longer than that is a batch of its own)."""

    n_frames: npt.NDArray[np.int64]
    batch_size: int
    max_batch_frames: int
    seed: int
    rank: int = 0
    n_ranks: int = 1

    def epoch(self, epoch: int) -> Sequence[list[int]]:
        """Return this rank's batches of utterance indices for one epoch; every rank has as many."""
        return self.plan(epoch).of_rank(self.rank)

    def plan(self, epoch: int) -> EpochPlan:
        """Return the batches of all ranks for one epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        n_utterances = len(self.n_frames)
        order = rng.permutation(n_utterances)
        small = n_utterances <= SMALL_CORPUS
        jitter = LENGTH_JITTER if small else LENGTH_JITTER * (SMALL_CORPUS / n_utterances) ** 2
        jittered = self.n_frames * rng.uniform(1 - jitter, 1 + jitter, n_utterances)
        pool_batches = POOL_BATCHES_OF_SMALL if small else POOL_BATCHES
        n_pools = math.ceil(n_utterances / (pool_batches * self.batch_size * self.n_ranks))
        pools, borders = [], [np.zeros(1, dtype=np.int64)]
        for pool in np.array_split(order, max(1, n_pools)):
            longest_first = pool[np.argsort(-jittered[pool], kind="stable")]
            pools.append(longest_first)
            borders.append(borders[-1][-1] + self._fill_up(self._cut(self.n_frames[longest_first])))
        starts, ends = (
            np.concatenate([part[which] for part in borders[1:]]) for which in (slice(None, -1), slice(1, None))
        )
        shuffled = rng.permutation(len(starts))
        return EpochPlan(self.n_frames, np.concatenate(pools), starts[shuffled], ends[shuffled], self.n_ranks)

    @property
    def too_long(self) -> npt.NDArray[np.intp]:
        """Indices of utterances that exceed `max_batch_frames` by themselves and so make batches of their own."""
        return np.flatnonzero(self.n_frames > self.max_batch_frames)

    def _cut(self, n_frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Cut utterances of lengths (N,), about the longest first, into global batches: as many as the ranks' limits
        allow in each; the last two share what is left evenly. Returns the borders (batches + 1,)."""
        most = self.batch_size * self.n_ranks
        each = -(-np.arange(1, most + 1) // self.n_ranks)  # utterances of a rank in a global batch of 1, 2, …
        borders = [0]
        while borders[-1] < len(n_frames):
            longest = np.maximum.accumulate(n_frames[borders[-1] : borders[-1] + most])
            n_each = each[: len(longest)]
            fits = (n_each == 1) | (n_each * longest <= self.max_batch_frames)
            borders.append(borders[-1] + (len(fits) if fits.all() else int(fits.argmin())))
        if len(borders) > 2 and 2 * (borders[-1] - borders[-2]) < borders[-2] - borders[-3]:
            borders[-2] = borders[-3] + math.ceil((borders[-1] - borders[-3]) / 2)
        return np.array(borders)

    def _fill_up(self, borders: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Give batches with fewer utterances than ranks some of the next longer batch, where that saves repeats."""
        filled = borders.copy()
        for position in range(len(borders) - 2, 0, -1):
            n_missing = self.n_ranks - (filled[position + 1] - filled[position])
            if n_missing > 0:
                filled[position] -= min(n_missing, filled[position] - filled[position - 1] - 1)
        return filled if self._n_repeats(filled) < self._n_repeats(borders) else borders

    def _n_repeats(self, borders: npt.NDArray[np.int64]) -> int:
        return int(np.maximum(0, self.n_ranks - np.diff(borders)).sum())


def padding_share(n_frames: npt.NDArray[np.int64], batches: Iterable[Sequence[int]]) -> float:
    """Return the share of frames in `batches` that are padding."""
    padded = spoken = 0
    for batch in batches:
        lengths = n_frames[list(batch)]
        padded += len(batch) * int(lengths.max())
        spoken += int(lengths.sum())
    return 1 - spoken / padded
