"""Deterministic, evenly spaced subsets."""

from __future__ import annotations


def evenly_spaced(total: int, count: int) -> list[int]:
    """Return `count` evenly spaced indices below `total`, starting at 0; all of them if there are fewer."""
    n_chosen = min(count, total)
    return [number * total // n_chosen for number in range(n_chosen)]
