"""Some of many, always the same."""

from __future__ import annotations


def evenly_spread(total: int, count: int) -> list[int]:
    """Return `count` places of 0 … total − 1 at even distances, the first one among them; all of them where there are
    fewer.
    """
    n_chosen = min(count, total)
    return [number * total // n_chosen for number in range(n_chosen)]
