"""Monotonic alignment search between frames and phones (Kim et al. 2020, Glow-TTS, algorithm 1).

Legend: B batch, T frames, P phones.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor


def search_durations(scores: Tensor, frame_lengths: Tensor, phone_lengths: Tensor) -> Tensor:
    """Return the frames per phone (B, P), int64, along the monotonic path of highest summed score.

    scores (B, T, P) hold the log-likelihood of each frame under each phone; lengths are (B,).
    Every phone gets at least one frame. Raises ValueError when an utterance has fewer frames than phones.
    """
    frames = frame_lengths.cpu().numpy().astype(np.int64)
    phones = phone_lengths.cpu().numpy().astype(np.int64)
    if (too_short := np.flatnonzero(frames < phones)).size:
        index = int(too_short[0])
        raise ValueError(
            f"item {index} has {frames[index]} frames for {phones[index]} phones: no monotonic path "
            "covers them; drop it or shorten its text"
        )
    values = np.ascontiguousarray(scores.detach().cpu().numpy(), dtype=np.float32)
    durations = np.zeros((values.shape[0], values.shape[2]), dtype=np.int64)
    _search_batch(values, frames, phones, durations)
    return torch.from_numpy(durations).to(scores.device)


@numba.njit(cache=True, nogil=True)
def _search_batch(scores: np.ndarray, frames: np.ndarray, phones: np.ndarray, durations: np.ndarray) -> None:
    for index in range(scores.shape[0]):
        _search_one(scores[index], frames[index], phones[index], durations[index])


@numba.njit(cache=True, nogil=True)
def _search_one(scores: np.ndarray, n_frames: int, n_phones: int, durations: np.ndarray) -> None:
    """Fill the durations: a forward pass with two rolling rows of totals, and one byte per cell for backtracking.

    Totals of phones that no path has reached yet are -inf, as is one cell before the first phone. The inner loop
    then needs neither branches nor bounds and vectorises; computing cells on no path costs less than skipping them.
    """
    moved = np.zeros((n_frames, n_phones), dtype=np.uint8)  # 1: this frame starts its phone
    previous = np.full(n_phones + 1, -np.inf, dtype=np.float32)
    current = np.full(n_phones + 1, -np.inf, dtype=np.float32)
    previous[1] = scores[0, 0]
    for frame in range(1, n_frames):
        for phone in range(n_phones):
            move, stay = previous[phone], previous[phone + 1]
            moved[frame, phone] = move > stay
            current[phone + 1] = (move if move > stay else stay) + scores[frame, phone]
        previous, current = current, previous
    phone = n_phones - 1
    for frame in range(n_frames - 1, -1, -1):
        durations[phone] += 1
        phone -= moved[frame, phone]
