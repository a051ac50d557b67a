"""Is our monotonic alignment search faster than a full table of values?

One batch of full size, both searches compiled by numba; they have to find the same paths.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.harness.common import OURS, REFERENCE, Result, cost_result, interleave, use_one_thread
from bench.harness.plain_networks import search_full_table
from model.networks.alignment_search import search_durations

N_BATCH, N_FRAMES, N_PHONES = 24, 990, 206
SECONDS = 6.0
TARGET = 4.0


def make_scores(n_batch: int, n_frames: int, n_phones: int, seed: int) -> Tensor:
    """Return scores (B, T, P) like those of a half-trained model: a broad ridge along the diagonal, and noise."""
    rng = np.random.default_rng(seed)
    position = np.arange(n_frames)[:, None] / n_frames - np.arange(n_phones)[None, :] / n_phones
    noise = rng.standard_normal((n_batch, n_frames, n_phones))
    return torch.from_numpy((-50.0 * position**2 + noise).astype(np.float32))


def run(scratch: Path) -> list[Result]:
    """Compare the two searches on one batch; raises RuntimeError when their paths differ."""
    use_one_thread()
    scores = make_scores(N_BATCH, N_FRAMES, N_PHONES, seed=0)
    frame_lengths, phone_lengths = torch.full((N_BATCH,), N_FRAMES), torch.full((N_BATCH,), N_PHONES)
    mask = torch.ones_like(scores)
    if not torch.equal(
        search_durations(scores, frame_lengths, phone_lengths), search_full_table(scores, mask).sum(1).long()
    ):
        raise RuntimeError("the two searches found different paths")
    timings = interleave(
        {
            OURS: partial(search_durations, scores, frame_lengths, phone_lengths),
            REFERENCE: partial(search_full_table, scores, mask),
        },
        SECONDS,
        1,
    )
    note = (
        f"{N_BATCH} × {N_FRAMES} × {N_PHONES}, both numba; identical paths, ours as durations, the reference's "
        f"as a matrix"
    )
    return [cost_result("alignment_search", timings, unit="ms a batch", unit_seconds=1e-3, target=TARGET, note=note)]
