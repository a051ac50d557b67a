"""Batches of utterances of similar length, the same on every machine for one seed and epoch.

Utterances are shuffled, cut into pools, sorted by (slightly jittered) length inside each pool and cut into batches,
which are shuffled again. Every utterance comes once an epoch; only where ranks would get unequal numbers of
batches are a few repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POOL_BATCHES = 100
LENGTH_JITTER = 0.05  # relative: on small corpora it keeps the same utterances from always meeting in a batch


@dataclass(frozen=True)
class BatchSampler:
    """Plans epochs: `n_frames` (N,) per utterance, at most `batch_size` utterances and `max_batch_frames` padded
    frames a batch (an utterance longer than that is a batch of its own)."""

    n_frames: npt.NDArray[np.int64]
    batch_size: int
    max_batch_frames: int
    seed: int
    rank: int = 0
    n_ranks: int = 1

    def epoch(self, epoch: int) -> list[list[int]]:
        """Return this rank's batches of utterance indices for one epoch; every rank has as many."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.n_frames))
        jittered = self.n_frames * rng.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, len(self.n_frames))
        pool_size = POOL_BATCHES * self.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), pool_size):
            pool = order[start : start + pool_size]
            batches += self._cut(pool[np.argsort(jittered[pool], kind="stable")])
        # Neighbours in length go to the ranks of one step, or the rank with the short batch would wait.
        steps = self._steps(batches)
        return [steps[index][self.rank] for index in rng.permutation(len(steps))]

    def _cut(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> list[list[int]]:
        batches: list[list[int]] = []
        current: list[int] = []
        longest = 0
        for index in indices:
            longest = max(longest, int(self.n_frames[index]))
            full = len(current) == self.batch_size or (len(current) + 1) * longest > self.max_batch_frames
            if current and full:
                batches.append(current)
                current, longest = [], int(self.n_frames[index])
            current.append(int(index))
        return [*batches, current] if current else batches

    def _steps(self, batches: list[list[int]]) -> list[list[list[int]]]:
        """Group batches so that each step has one per rank, repeating the first few if their number does not divide."""
        n_missing = -len(batches) % self.n_ranks
        padded = batches + [batches[index % len(batches)] for index in range(n_missing)]
        return [padded[start : start + self.n_ranks] for start in range(0, len(padded), self.n_ranks)]


def padding_share(n_frames: npt.NDArray[np.int64], batches: Sequence[Sequence[int]]) -> float:
    """Return the share of frames in `batches` that are padding."""
    padded = sum(len(batch) * int(n_frames[list(batch)].max()) for batch in batches)
    return 1 - sum(int(n_frames[list(batch)].sum()) for batch in batches) / padded
