"""How much of a training batch is padding?

Counts, not times: our sampler against length buckets filled up with repeats, on the corpus and on 12,000 lengths drawn
from its distribution.
"""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.harness.common import Result
from bench.harness.speech import CORPUS_RATE_HZ, Clip
from model.training.sampler import BatchSampler, padding_share

BATCH_SIZE = 24
FRAMES_PER_SECOND = 44100 / 512
BUCKET_EDGES_FRAMES = (32, 300, 400, 500, 600, 700, 800, 900, 1000)
MAX_BATCH_FRAMES = BATCH_SIZE * 500  # 140 seconds of speech: what one rank's memory takes
N_LARGE = 12000
N_CLIPS_COUNTED = 36000  # over all epochs
TARGET_SHARE = 0.03

Frames = npt.NDArray[np.int64]


def bucket_batches(n_frames: Frames, batch_size: int, edges: Sequence[int], seed: int) -> list[list[int]]:
    """Return one epoch of the usual way.

    An utterance belongs to the bucket (edge, next edge] of its length, or is dropped; each bucket is shuffled and
    filled up with repeats to whole batches.
    """
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


def our_batches(n_frames: Frames, epoch: int, max_batch_frames: int = MAX_BATCH_FRAMES) -> list[list[int]]:
    """Return one epoch of our sampler."""
    return list(BatchSampler(n_frames, BATCH_SIZE, max_batch_frames, seed=0).epoch(epoch))


def sorted_batches(n_frames: Frames) -> list[list[int]]:
    """Return batches of all utterances in order of length: the least padding, and the same batches in every epoch."""
    order = np.argsort(n_frames, kind="stable")
    return [list(order[start : start + BATCH_SIZE]) for start in range(0, len(order), BATCH_SIZE)]


def clip_frames(clips: Sequence[Clip]) -> Frames:
    """Frames (N,) of each clip at 44.1 kHz with hops of 512 samples."""
    return np.array([int(len(clip.pcm) / CORPUS_RATE_HZ * FRAMES_PER_SECOND) for clip in clips], dtype=np.int64)


def compare(name: str, n_frames: Frames, what: str) -> Result:
    """Compare the share of padded frames over several epochs; repeats and drops are in the note."""
    n_epochs = max(3, N_CLIPS_COUNTED // len(n_frames))
    ours = [our_batches(n_frames, epoch) for epoch in range(n_epochs)]
    reference = [bucket_batches(n_frames, BATCH_SIZE, BUCKET_EDGES_FRAMES, epoch) for epoch in range(n_epochs)]
    our_share, their_share = (
        statistics.median(padding_share(n_frames, batches) for batches in epochs) for epochs in (ours, reference)
    )
    least = padding_share(n_frames, sorted_batches(n_frames))
    loose = BATCH_SIZE * BUCKET_EDGES_FRAMES[-1]  # frames of the largest batch that buckets make
    loose_share = padding_share(n_frames, our_batches(n_frames, 0, loose))
    note = (
        f"{len(n_frames)} {what}, batches of {BATCH_SIZE}, {n_epochs} epochs; ours: at most {MAX_BATCH_FRAMES:,} "
        f"frames, "
        f"{_coverage(n_frames, ours[0])}; with at most {loose:,}: {loose_share:.1%}; "
        f"buckets: {_coverage(n_frames, reference[0])}; sorting everything into whole batches: {least:.1%} padding"
    )
    return Result(
        name=name,
        ours=our_share,
        reference=their_share,
        ratio=their_share / our_share,
        limit_share=None,
        target=TARGET_SHARE,
        target_of="ours_at_most",
        unit="share of frames",
        rounds=n_epochs,
        note=note,
    )


def _coverage(n_frames: Frames, batches: Sequence[Sequence[int]]) -> str:
    drawn = [index for batch in batches for index in batch]
    n_repeated, n_dropped = len(drawn) - len(set(drawn)), len(n_frames) - len(set(drawn))
    return f"{len(batches)} batches, {n_repeated} repeated, {n_dropped} dropped"


def run(clips: Sequence[Clip], scratch: Path) -> list[Result]:
    """Compare padding on the corpus, a small one with a few very long clips, and on a large one without them."""
    n_frames = clip_frames(clips)
    rng = np.random.default_rng(0)
    drawn = np.quantile(n_frames[n_frames <= BUCKET_EDGES_FRAMES[-1]], rng.random(N_LARGE)).astype(np.int64)
    return [
        compare("padding", n_frames, "clips of the corpus"),
        compare("padding_large", drawn, "lengths drawn from the corpus's distribution, at most 1,000 frames"),
    ]
