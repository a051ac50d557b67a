"""Batches of utterances of similar length, the same on every machine for one seed and epoch.

Utterances are shuffled, cut into pools, sorted by (slightly jittered) length inside each pool and cut into global
batches, one per step, which are shuffled again. Each global batch is dealt to the ranks: n ranks of b utterances
share what one process with batches of n · b reads in that step. Every utterance comes once an epoch; only where a
global batch has fewer utterances than there are ranks are some repeated.

`max_batch_frames` protects the memory of one rank, so where it binds, a global batch depends on the number of ranks
too: one utterance may not be split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POOL_BATCHES = 100
LENGTH_JITTER = 0.05  # relative: on small corpora it keeps the same utterances from always meeting in a batch


@dataclass(frozen=True)
class EpochPlan:
    """The batches of one epoch: `steps[k][r]` holds the utterance indices of rank r in step k; `repeated` those that come twice."""

    steps: tuple[tuple[tuple[int, ...], ...], ...]
    repeated: tuple[int, ...]

    def of_rank(self, rank: int) -> list[list[int]]:
        """Return one rank's batches."""
        return [list(step[rank]) for step in self.steps]


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

    def epoch(self, epoch: int) -> list[list[int]]:
        """Return this rank's batches of utterance indices for one epoch; every rank has as many."""
        return self.plan(epoch).of_rank(self.rank)

    def plan(self, epoch: int) -> EpochPlan:
        """Return the batches of all ranks for one epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.n_frames))
        jittered = self.n_frames * rng.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, len(self.n_frames))
        n_pools = math.ceil(len(order) / (POOL_BATCHES * self.batch_size * self.n_ranks))
        batches: list[list[int]] = []
        for pool in np.array_split(order, max(1, n_pools)):
            longest_first = pool[np.argsort(-jittered[pool], kind="stable")]
            batches += self._fill_up(self._cut([int(index) for index in longest_first]))
        dealt = [self._deal(batches[index]) for index in rng.permutation(len(batches))]
        return EpochPlan(tuple(step for step, _ in dealt), tuple(index for _, repeated in dealt for index in repeated))

    @property
    def too_long(self) -> npt.NDArray[np.intp]:
        """Indices of utterances that exceed `max_batch_frames` by themselves and so make batches of their own."""
        return np.flatnonzero(self.n_frames > self.max_batch_frames)

    def _fits(self, n_utterances: int, longest: int) -> bool:
        """Return whether a global batch can be dealt so that no rank exceeds its limits."""
        each = math.ceil(n_utterances / self.n_ranks)
        return each == 1 or (each <= self.batch_size and each * longest <= self.max_batch_frames)

    def _cut(self, indices: Sequence[int]) -> list[list[int]]:
        """Cut indices, the longest utterance first, into global batches; the last two share what is left evenly."""
        batches: list[list[int]] = []
        longest = 0
        for index in indices:
            longest = max(longest, int(self.n_frames[index]))
            if batches and self._fits(len(batches[-1]) + 1, longest):
                batches[-1].append(index)
            else:
                batches.append([index])
                longest = int(self.n_frames[index])
        if len(batches) > 1 and 2 * len(batches[-1]) < len(batches[-2]):
            together = batches[-2] + batches[-1]
            half = math.ceil(len(together) / 2)
            batches[-2:] = [together[:half], together[half:]]
        return batches

    def _fill_up(self, batches: list[list[int]]) -> list[list[int]]:
        """Give batches with fewer utterances than ranks some of the next longer batch, where that saves repeats."""
        filled = [list(batch) for batch in batches]
        for position in range(len(filled) - 1, 0, -1):
            n_missing = self.n_ranks - len(filled[position])
            if n_missing > 0:
                n_given = min(n_missing, len(filled[position - 1]) - 1)
                split_at = len(filled[position - 1]) - n_given
                filled[position] = filled[position - 1][split_at:] + filled[position]
                filled[position - 1] = filled[position - 1][:split_at]
        return filled if self._n_repeats(filled) < self._n_repeats(batches) else batches

    def _n_repeats(self, batches: Sequence[Sequence[int]]) -> int:
        return sum(max(0, self.n_ranks - len(batch)) for batch in batches)

    def _deal(self, batch: Sequence[int]) -> tuple[tuple[tuple[int, ...], ...], list[int]]:
        """Deal a global batch to the ranks, to and fro from the longest down, so that they get about equal frames.

        Returns the ranks' batches and the utterances that had to be repeated.
        """
        n_missing = max(0, self.n_ranks - len(batch))
        repeated = [batch[index % len(batch)] for index in range(n_missing)]
        hands: list[list[int]] = [[] for _ in range(self.n_ranks)]
        by_length = sorted([*batch, *repeated], key=lambda index: (-int(self.n_frames[index]), index))
        for start in range(0, len(by_length), self.n_ranks):
            cards = by_length[start : start + self.n_ranks]
            forth = (start // self.n_ranks) % 2 == 0 and len(cards) == self.n_ranks  # a short last round starts where the batches are shortest
            for position, index in enumerate(cards):
                hands[position if forth else self.n_ranks - 1 - position].append(index)
        return tuple(tuple(hand) for hand in hands), repeated


def padding_share(n_frames: npt.NDArray[np.int64], batches: Sequence[Sequence[int]]) -> float:
    """Return the share of frames in `batches` that are padding."""
    padded = sum(len(batch) * int(n_frames[list(batch)].max()) for batch in batches)
    return 1 - sum(int(n_frames[list(batch)].sum()) for batch in batches) / padded
