"""How much of a batch is padding: our sampler against length buckets filled up with repeats. Counts, not times."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.common import Result
from bench.speech import CORPUS_RATE_HZ, Clip
from model.sampler import BatchSampler, padding_share

BATCH_SIZE = 24
FRAMES_PER_SECOND = 44100 / 512
BUCKET_EDGES_FRAMES = (32, 300, 400, 500, 600, 700, 800, 900, 1000)
N_EPOCHS = 20
TARGET_SHARE = 0.03

Frames = npt.NDArray[np.int64]


def bucket_batches(n_frames: Frames, batch_size: int, edges: Sequence[int], seed: int) -> list[list[int]]:
    """One epoch the usual way: an utterance belongs to the bucket (edge, next edge] of its length, or is dropped; each
    bucket is shuffled and filled up with repeats to whole batches."""
    rng = np.random.default_rng(seed)
    buckets: list[list[int]] = [[] for _ in range(len(edges) - 1)]
    for index, length in enumerate(n_frames):
        bucket = bisect.bisect_left(edges, length) - 1
        if 0 <= bucket < len(buckets):
            buckets[bucket].append(index)
    batches = []
    for members in buckets:
        shuffled = [members[position] for position in rng.permutation(len(members))]
        n_missing = -len(shuffled) % batch_size
        filled = shuffled + [shuffled[position % len(shuffled)] for position in range(n_missing)]
        batches += [filled[start : start + batch_size] for start in range(0, len(filled), batch_size)]
    return [batches[position] for position in rng.permutation(len(batches))]


def our_batches(n_frames: Frames, batch_size: int, epoch: int) -> list[list[int]]:
    """One epoch of our sampler, limited by the number of utterances alone, as buckets are."""
    unlimited = batch_size * int(n_frames.max())
    return BatchSampler(n_frames, batch_size, max_batch_frames=unlimited, seed=0).epoch(epoch)


def padding(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the share of padded frames over several epochs; repeats and drops are in the note."""
    n_frames = np.array([int(len(clip.pcm) / CORPUS_RATE_HZ * FRAMES_PER_SECOND) for clip in clips], dtype=np.int64)
    ours = [our_batches(n_frames, BATCH_SIZE, epoch) for epoch in range(N_EPOCHS)]
    reference = [bucket_batches(n_frames, BATCH_SIZE, BUCKET_EDGES_FRAMES, epoch) for epoch in range(N_EPOCHS)]
    our_share, their_share = (statistics.median(padding_share(n_frames, batches) for batches in epochs) for epochs in (ours, reference))
    note = (
        f"{len(n_frames)} clips in batches of {BATCH_SIZE}, {N_EPOCHS} epochs; ours: {_coverage(n_frames, ours[0])}; "
        f"buckets: {_coverage(n_frames, reference[0])}"
    )
    return Result(name="padding", ours=our_share, reference=their_share, ratio=their_share / our_share, limit_share=None,
                  target=TARGET_SHARE, target_of="ours_at_most", unit="share of frames", rounds=N_EPOCHS, note=note)  # fmt: skip


def _coverage(n_frames: Frames, batches: Sequence[Sequence[int]]) -> str:
    drawn = [index for batch in batches for index in batch]
    n_repeated, n_dropped = len(drawn) - len(set(drawn)), len(n_frames) - len(set(drawn))
    return f"{n_repeated} repeated, {n_dropped} dropped"
