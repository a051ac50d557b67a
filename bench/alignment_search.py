"""Monotonic alignment search on a full-size batch: two rolling rows against a full table of values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numba
import numpy as np
import torch
from torch import Tensor

from bench.harness.common import OURS, REFERENCE, Result, cost_result, interleave, use_one_thread
from bench.harness.speech import Clip
from model.alignment import search_durations

N_BATCH, N_FRAMES, N_PHONES = 24, 990, 206
SECONDS = 6.0
TARGET = 4.0


def reference(scores: Tensor, mask: Tensor) -> Tensor:
    """Paths (B, T, P) of zeros and ones, the usual way: a value for every cell, then back through the values."""
    values = scores.numpy().astype(np.float32)
    paths = np.zeros(values.shape, dtype=np.int32)
    n_frames = mask.sum(1)[:, 0].numpy().astype(np.int32)
    n_phones = mask.sum(2)[:, 0].numpy().astype(np.int32)
    _fill_paths(paths, values, n_frames, n_phones)
    return torch.from_numpy(paths).to(scores.dtype)


@numba.njit(nogil=True)
def _fill_paths(paths: np.ndarray, values: np.ndarray, n_frames: np.ndarray, n_phones: np.ndarray) -> None:
    worst = -1e9
    for item in range(paths.shape[0]):
        path, value = paths[item], values[item]
        frames, phones = n_frames[item], n_phones[item]
        for frame in range(frames):
            # Only phones from which the end can still be reached, and which the start can have reached.
            for phone in range(max(0, phones + frame - frames), min(phones, frame + 1)):
                stay = worst if phone == frame else value[frame - 1, phone]
                if phone == 0:
                    move = 0.0 if frame == 0 else worst
                else:
                    move = value[frame - 1, phone - 1]
                value[frame, phone] += max(move, stay)
        phone = phones - 1
        for frame in range(frames - 1, -1, -1):
            path[frame, phone] = 1
            if phone != 0 and (phone == frame or value[frame - 1, phone] < value[frame - 1, phone - 1]):
                phone -= 1


def make_scores(n_batch: int, n_frames: int, n_phones: int, seed: int) -> Tensor:
    """Scores (B, T, P) as a half-trained model gives them: a broad ridge along the diagonal, and noise."""
    rng = np.random.default_rng(seed)
    position = np.arange(n_frames)[:, None] / n_frames - np.arange(n_phones)[None, :] / n_phones
    noise = rng.standard_normal((n_batch, n_frames, n_phones))
    return torch.from_numpy((-50.0 * position**2 + noise).astype(np.float32))


def alignment_search(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the two searches on one batch; raises RuntimeError when their paths differ."""
    use_one_thread()
    scores = make_scores(N_BATCH, N_FRAMES, N_PHONES, seed=0)
    frame_lengths, phone_lengths = torch.full((N_BATCH,), N_FRAMES), torch.full((N_BATCH,), N_PHONES)
    mask = torch.ones_like(scores)
    if not torch.equal(search_durations(scores, frame_lengths, phone_lengths), reference(scores, mask).sum(1).long()):
        raise RuntimeError("the two searches found different paths")
    timings = interleave({
        OURS: partial(search_durations, scores, frame_lengths, phone_lengths),
        REFERENCE: partial(reference, scores, mask),
    }, SECONDS, 1)  # fmt: skip
    note = f"{N_BATCH} × {N_FRAMES} × {N_PHONES}, both numba; identical paths, ours as durations, the reference's as a matrix"
    return cost_result("alignment_search", timings, unit="ms a batch", unit_seconds=1e-3, target=TARGET, note=note)
