"""Flat binary shards: many rows in a few large files, read with pread at offsets that a manifest holds.

A row's shard is chosen by the hash of its utterance id and rows lie in it by utterance id, so the same rows give the
same bytes whatever the order of work, and one new clip changes one shard.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.common.errors import StageError

MIN_SHARDS = 16
# Small: changing 1 % of the clips changes only a quarter of the shards. Large: DVC tracks few files.
ROWS_PER_SHARD = 32
MAX_OPEN_SHARDS = 256


def shard_count(n_rows: int) -> int:
    """Return the number of shards for a corpus: a power of two, so that growth moves rows only when it doubles."""
    return max(MIN_SHARDS, 1 << max(0, (n_rows - 1) // ROWS_PER_SHARD).bit_length())


def shard_hash(utterance_id: str) -> int:
    """Return 32 bits of an utterance id's hash; the lowest bits are its shard number."""
    return int.from_bytes(hashlib.sha256(utterance_id.encode("utf-8")).digest()[4:8], "big")


def shard_path(folder: Path, shard: int) -> Path:
    """Return the path of shard number `shard` inside a stage's output folder."""
    return folder / "shards" / f"{shard:05d}.bin"


def write_shards(
    folder: Path, hashes: npt.NDArray[np.uint32], read_row: Callable[[int], bytes], progress: Callable[[int], object]
) -> npt.NDArray[np.int64]:
    """Write the bytes of N rows into shards, given the hashes (N,) of their ids; shards keep the order of the rows.

    Returns offsets in bytes (N,). A row's shard is its hash modulo `shard_count(N)`. One row is in memory at a time.
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
    """Random access to the rows of a stage's shards with pread; the last `MAX_OPEN_SHARDS` files used stay open.

    A reader may be pickled or forked: every process opens its own descriptors. It is not thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._process = os.getpid()
        self._descriptors: OrderedDict[int, int] = OrderedDict()  # by shard, least recently used first

    def __getstate__(self) -> Mapping[str, object]:
        return {"folder": self.folder, "_process": None, "_descriptors": OrderedDict()}

    def read(self, shard: int, offset_bytes: int, n_bytes: int) -> bytes:
        """Return `n_bytes` from a shard; raises StageError when the shard is missing or ends early."""
        data = os.pread(self._descriptor(shard), n_bytes, offset_bytes)
        self._require(shard, offset_bytes, n_bytes, len(data))
        return data

    def read_array(self, shard: int, offset_bytes: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Return a row as an array of `shape` and `dtype` (little-endian)."""
        array = np.empty(shape, dtype=np.dtype(dtype).newbyteorder("<"))
        self.read_into(array, shard, offset_bytes)
        return array

    def read_into(self, array: np.ndarray, shard: int, offset_bytes: int) -> None:
        """Fill a contiguous array with the bytes of a row; raises StageError as `read` does."""
        n_read = os.preadv(self._descriptor(shard), [array.data], offset_bytes) if array.nbytes else 0
        self._require(shard, offset_bytes, array.nbytes, n_read)

    def _descriptor(self, shard: int) -> int:
        if self._process != os.getpid():  # inherited descriptors belong to the parent
            self._process, self._descriptors = os.getpid(), OrderedDict()
        if shard in self._descriptors:
            self._descriptors.move_to_end(shard)
            return self._descriptors[shard]
        path = shard_path(self.folder, shard)
        try:
            self._descriptors[shard] = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise StageError(None, path, "shard is missing; run `dvc checkout` or `dvc repro`") from None
        if len(self._descriptors) > MAX_OPEN_SHARDS:
            os.close(self._descriptors.popitem(last=False)[1])
        return self._descriptors[shard]

    def _require(self, shard: int, offset_bytes: int, n_bytes: int, n_read: int) -> None:
        if n_read != n_bytes:
            raise StageError(
                None,
                shard_path(self.folder, shard),
                f"ends at byte {offset_bytes + n_read}, {offset_bytes + n_bytes} expected; run `dvc checkout --force`",
            )

    def close(self) -> None:
        """Close every open shard."""
        if self._process == os.getpid():
            for descriptor in self._descriptors.values():
                os.close(descriptor)
        self._descriptors.clear()

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
