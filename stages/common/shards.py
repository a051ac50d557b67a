"""Flat binary shards: many rows in a few large files, read with pread at offsets that a manifest holds.

A row's shard is chosen by the hash of its utterance id and rows lie in it by utterance id, so the same rows give the
same bytes whatever the order of work, and one new clip changes one shard.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.common.errors import StageError

MIN_SHARDS = 16
ROWS_PER_SHARD = 256


def shard_count(n_rows: int) -> int:
    """Return the number of shards for a corpus: a power of two, so that growth moves rows only when it doubles."""
    return max(MIN_SHARDS, 1 << max(0, (n_rows - 1) // ROWS_PER_SHARD).bit_length())


def shard_hash(utterance_id: str) -> int:
    """Return 32 bits of an utterance id's hash, of which the lowest ones number its shard."""
    return int.from_bytes(hashlib.sha256(utterance_id.encode("utf-8")).digest()[4:8], "big")


def shard_of(utterance_id: str, n_shards: int) -> int:
    """Return the shard index of an utterance among a number of shards that is a power of two."""
    return shard_hash(utterance_id) % n_shards


def shard_path(folder: Path, shard: int) -> Path:
    """Return the path of shard number `shard` inside a stage's output folder."""
    return folder / "shards" / f"{shard:05d}.bin"


def write_shards(
    folder: Path, hashes: npt.NDArray[np.uint32], read_row: Callable[[int], bytes], progress: Callable[[int], object]
) -> npt.NDArray[np.int64]:
    """Write the bytes of N rows, given the hashes (N,) of their ids, into shards where they lie in the order of the rows.

    Returns offsets in bytes (N,); the shard of a row is its hash modulo `shard_count(N)`. One row is in memory at a time.
    """
    shards = hashes % shard_count(len(hashes))
    offsets = np.zeros(len(hashes), dtype=np.int64)
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    order = np.argsort(shards, kind="stable")
    starts = np.flatnonzero(np.diff(shards[order], prepend=np.uint32(1 << 31)))
    for members in np.split(order, starts[1:]) if len(order) else ():
        with shard_path(folder, int(shards[members[0]])).open("wb") as stream:
            for row in members:
                offsets[row] = stream.tell()
                stream.write(read_row(int(row)))
                progress(1)
    return offsets


class ShardReader:
    """Random access to the rows of a stage's shards; files are opened once and read with pread.

    A reader may be pickled or forked: descriptors are opened anew in every process that uses it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._descriptors: dict[tuple[int, int], int] = {}

    def __getstate__(self) -> Mapping[str, object]:
        return {"folder": self.folder, "_descriptors": {}}

    def read(self, shard: int, offset_bytes: int, n_bytes: int) -> bytes:
        """Return `n_bytes` from a shard; raises StageError when the shard is missing or ends early."""
        handle = (os.getpid(), shard)
        if handle not in self._descriptors:
            path = shard_path(self.folder, shard)
            try:
                self._descriptors[handle] = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                raise StageError(None, path, "shard is missing; run `dvc checkout` or `dvc repro`") from None
        data = os.pread(self._descriptors[handle], n_bytes, offset_bytes)
        if len(data) != n_bytes:
            raise StageError(None, shard_path(self.folder, shard), f"ends at byte {offset_bytes + len(data)}, "
                             f"{offset_bytes + n_bytes} expected; run `dvc checkout --force`")  # fmt: skip
        return data

    def read_array(self, shard: int, offset_bytes: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Return a row as an array of `shape` and `dtype` (little-endian)."""
        kind = np.dtype(dtype).newbyteorder("<")
        return np.frombuffer(self.read(shard, offset_bytes, int(np.prod(shape)) * kind.itemsize), dtype=kind).reshape(shape)

    def close(self) -> None:
        """Close every open shard."""
        for (process, _), descriptor in self._descriptors.items():
            if process == os.getpid():
                os.close(descriptor)
        self._descriptors.clear()

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


