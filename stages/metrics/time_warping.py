"""Dynamic time warping: which frame of one recording corresponds to which of another (Sakoe and Chiba 1978).

Own code rather than librosa's, which takes seconds to import and 20 bytes for each pair of frames; this one
takes one byte.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_BOTH, _FIRST, _SECOND = 0, 1, 2  # which side moved on to reach a pair


def dynamic_time_warping(first: Array, second: Array) -> tuple[Indices, Indices]:
    """Return the pairs of frames on the cheapest monotonic path between (T1, C) and (T2, C), as two arrays.

    The path runs from the first pair to the last in steps of one frame on either side or both; its cost is
    the sum of Euclidean distances. Of equally cheap steps the diagonal one is taken. Raises ValueError for
    an empty side.
    """
    if len(first) == 0 or len(second) == 0:
        raise ValueError(f"there is no path between {len(first)} and {len(second)} frames")
    return _backtrack(_directions(np.ascontiguousarray(first), np.ascontiguousarray(second)))


@numba.njit(cache=True, nogil=True)
def _directions(first: Array, second: Array) -> npt.NDArray[np.uint8]:
    directions = np.empty((len(first), len(second)), dtype=np.uint8)
    above = np.full(len(second), np.inf)
    for i in range(len(first)):
        diagonal = np.inf if i else 0.0  # what comes before the first pair costs nothing
        left = np.inf
        for j in range(len(second)):
            distance = 0.0
            for channel in range(first.shape[1]):
                difference = first[i, channel] - second[j, channel]
                distance += difference * difference
            up = above[j]
            best, direction = diagonal, _BOTH
            if up < best:
                best, direction = up, _FIRST
            if left < best:
                best, direction = left, _SECOND
            directions[i, j] = direction
            diagonal = up
            left = best + np.sqrt(distance)
            above[j] = left
    return directions


@numba.njit(cache=True, nogil=True)
def _backtrack(directions: npt.NDArray[np.uint8]) -> tuple[Indices, Indices]:
    i, j = directions.shape[0] - 1, directions.shape[1] - 1
    first = np.empty(i + j + 1, dtype=np.intp)
    second = np.empty(i + j + 1, dtype=np.intp)
    steps = 0
    while True:
        first[steps], second[steps] = i, j
        steps += 1
        if i == 0 and j == 0:
            return first[:steps][::-1].copy(), second[:steps][::-1].copy()
        direction = directions[i, j]
        if direction != _SECOND:
            i -= 1
        if direction != _FIRST:
            j -= 1
