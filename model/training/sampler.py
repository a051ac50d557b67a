"""Batches of utterances of similar length, the same on every machine for one seed and epoch.

Utterances are shuffled, split into pools, sorted by (slightly jittered) length inside each pool and cut into global
batches, one per step, which are shuffled again. Each global batch is distributed across ranks: n ranks of b utterances
read in a step what one process with batches of n · b reads. Every utterance occurs once per epoch, except that a global
batch with fewer utterances than ranks repeats some.

`max_batch_frames` limits the memory of one rank. Where it applies, a global batch also depends on the number of ranks,
because an utterance cannot be split.

A plan is a few arrays, and batches are computed on access, so that an epoch of a million utterances takes megabytes
and a second to plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt

# In a small corpus only jittered lengths keep the same utterances from sharing a batch in every epoch. In larger ones
# neighbours differ less, so that less jitter mixes them; with several pools the shuffle before pooling does, too.
SMALL_CORPUS = 1000
LENGTH_JITTER = 0.05  # relative, in a small corpus
POOL_BATCHES_OF_SMALL, POOL_BATCHES = 100, 400

RankBatch = tuple[int, ...]  # one rank's utterance indices in a step
ItemT = TypeVar("ItemT")


class LazySequence(Sequence[ItemT]):
    """Sequence of make(0), make(1), … make(length - 1), each computed on access."""

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
            positions = self._positions[position]
            return LazySequence(len(positions), lambda index: self._make(positions[index]))
        return self._make(self._positions[position])


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """Batches of one epoch: global batch k has the utterances `order[starts[k] : ends[k]]`, about longest first."""

    n_frames: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    n_ranks: int

    @property
    def steps(self) -> Sequence[tuple[RankBatch, ...]]:
        """Return each step's utterance indices, rank by rank."""
        return LazySequence(len(self.starts), self.rank_batches)

    def of_rank(self, rank: int) -> Sequence[list[int]]:
        """Return one rank's batches."""
        return LazySequence(len(self.starts), lambda step: list(self.rank_batches(step)[rank]))

    @property
    def repeated(self) -> tuple[int, ...]:
        """Return the utterances that occur twice because their global batch has fewer utterances than ranks."""
        short = np.flatnonzero(self.ends - self.starts < self.n_ranks)
        return tuple(index for step in short for index in self._repeats(self._global_batch(int(step))))

    def _global_batch(self, step: int) -> list[int]:
        indices: list[int] = self.order[self.starts[step] : self.ends[step]].tolist()
        return indices

    def _repeats(self, batch: Sequence[int]) -> list[int]:
        return [batch[index % len(batch)] for index in range(self.n_ranks - len(batch))]

    def rank_batches(self, step: int) -> tuple[RankBatch, ...]:
        """Distribute a global batch across ranks in serpentine order by length, which gives them about equal frames."""
        batch = self._global_batch(step)
        padded = [*batch, *self._repeats(batch)]
        ranks: list[list[int]] = [[] for _ in range(self.n_ranks)]
        by_length = sorted(padded, key=lambda index: (-int(self.n_frames[index]), index))
        for start in range(0, len(by_length), self.n_ranks):
            row = by_length[start : start + self.n_ranks]
            # A short last row starts at the rank with the fewest frames.
            ascending = (start // self.n_ranks) % 2 == 0 and len(row) == self.n_ranks
            for position, index in enumerate(row):
                ranks[position if ascending else self.n_ranks - 1 - position].append(index)
        return tuple(tuple(rank) for rank in ranks)


@dataclass(frozen=True)
class BatchSampler:
    """Planner of epochs for utterances of `n_frames` (N,).

    A rank's batch has at most `batch_size` utterances and `max_batch_frames` padded frames; a longer utterance is a
    batch by itself.
    """

    n_frames: npt.NDArray[np.int64]
    batch_size: int
    max_batch_frames: int
    seed: int
    rank: int = 0
    n_ranks: int = 1

    def epoch(self, epoch: int) -> Sequence[list[int]]:
        """Return this rank's batches of utterance indices for one epoch; all ranks have the same number."""
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
        pools, boundaries = [], [np.zeros(1, dtype=np.int64)]
        for pool in np.array_split(order, max(1, n_pools)):
            longest_first = pool[np.argsort(-jittered[pool], kind="stable")]
            pools.append(longest_first)
            boundaries.append(boundaries[-1][-1] + self._fill_up(self._boundaries(self.n_frames[longest_first])))
        starts, ends = (
            np.concatenate([part[which] for part in boundaries[1:]]) for which in (slice(None, -1), slice(1, None))
        )
        shuffled = rng.permutation(len(starts))
        return EpochPlan(self.n_frames, np.concatenate(pools), starts[shuffled], ends[shuffled], self.n_ranks)

    @property
    def too_long(self) -> npt.NDArray[np.intp]:
        """Return the indices of utterances longer than `max_batch_frames`, each of which is a batch by itself."""
        return np.flatnonzero(self.n_frames > self.max_batch_frames)

    def _boundaries(self, n_frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the boundaries (batches + 1,) of global batches for utterances of lengths (N,), about longest first.

        Each batch is as large as the ranks' limits allow; the last two are of equal size.
        """
        limit = self.batch_size * self.n_ranks
        each = -(-np.arange(1, limit + 1) // self.n_ranks)  # utterances per rank in a global batch of 1, 2, …
        boundaries = [0]
        while boundaries[-1] < len(n_frames):
            longest = np.maximum.accumulate(n_frames[boundaries[-1] : boundaries[-1] + limit])
            n_each = each[: len(longest)]
            fits = (n_each == 1) | (n_each * longest <= self.max_batch_frames)
            boundaries.append(boundaries[-1] + (len(fits) if fits.all() else int(fits.argmin())))
        if len(boundaries) > 2 and 2 * (boundaries[-1] - boundaries[-2]) < boundaries[-2] - boundaries[-3]:
            boundaries[-2] = boundaries[-3] + math.ceil((boundaries[-1] - boundaries[-3]) / 2)
        return np.array(boundaries)

    def _fill_up(self, boundaries: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Fill batches with fewer utterances than ranks from the preceding batch, if that avoids repeats."""
        filled = boundaries.copy()
        for position in range(len(boundaries) - 2, 0, -1):
            n_missing = self.n_ranks - (filled[position + 1] - filled[position])
            if n_missing > 0:
                filled[position] -= min(n_missing, filled[position] - filled[position - 1] - 1)
        return filled if self._n_repeats(filled) < self._n_repeats(boundaries) else boundaries

    def _n_repeats(self, boundaries: npt.NDArray[np.int64]) -> int:
        return int(np.maximum(0, self.n_ranks - np.diff(boundaries)).sum())


def padding_share(n_frames: npt.NDArray[np.int64], batches: Iterable[Sequence[int]]) -> float:
    """Return the share of frames in `batches` that are padding."""
    padded = spoken = 0
    for batch in batches:
        lengths = n_frames[list(batch)]
        padded += len(batch) * int(lengths.max())
        spoken += int(lengths.sum())
    return 1 - spoken / padded
