"""Shards of rows that are known by name, for benchmarks and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from stages.rows.shards import shard_count, shard_hash, write_shards


def write_named_shards(
    folder: Path, names: Iterable[str], read_row: Callable[[str], bytes]
) -> dict[str, tuple[int, int]]:
    """Write each name's bytes, in the order of names, and return name → (shard, offset in bytes)."""
    ordered = sorted(names)
    hashes = np.array([shard_hash(name) for name in ordered], dtype=np.uint32)
    offsets = write_shards(folder, hashes, lambda row: read_row(ordered[row]), lambda _: None)
    return {
        name: (shard_hash(name) % shard_count(len(ordered)), int(offset))
        for name, offset in zip(ordered, offsets, strict=True)
    }
