"""The reusable row store: finished rows by key, outside DVC's outputs, safe to delete at any time.

A key hashes everything a row depends on (content, params, code), so an entry is correct or absent, never stale. Rows
are stored in append-only packs, one per writing process; readers scan the headers and ignore a tail that a crash cut
off. Each record has checksums: a corrupted row is reported and computed again, and so are the rows of a pack that
cannot be read. A pack's modification time is its last use, which `make gc` goes by; rows of a pack that is deleted
during a run are computed again. A store that this user cannot write serves its rows; new rows then last for one run.

Checksums find accidents, not intent: whoever can write to a store decides what its users' rows are.

Record: magic (4) | key (32) | length of meta (4) | length of blob (8) | XXH3 of these (8) | XXH3 of the rest (8) | meta
| blob.

An open store holds 28 bytes per row in memory: half of the key, the pack number and the offset.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import struct
import tempfile
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64, xxh3_64_intdigest

logger = logging.getLogger(__name__)

_FIELDS = struct.Struct("<4s32sIQ")
_CHECKSUMS = struct.Struct("<QQ")
_HEADER_BYTES = _FIELDS.size + _CHECKSUMS.size
_MAGIC = b"row2"
_PLACE = np.dtype([("key", "S16"), ("pack", "<u4"), ("start", "<u8")])
_PACKED_PLACE = struct.Struct("<16sIQ")
KEY_BYTES = 16  # of the key's 32: no two rows share them
MAX_RECENT = 16384  # rows of this run before they are merged into the sorted index
MAX_OPEN_PACKS = 128
DEFAULT_FOLDER = ".rows"

Keys = npt.NDArray[np.bytes_]


def store_root() -> Path:
    """Return the folder of all stages' stores: VOICE_ROW_STORE when that is set, else .rows in the working folder."""
    return Path(os.environ.get("VOICE_ROW_STORE", DEFAULT_FOLDER))


def store_folder(stage: str) -> Path:
    """Return the stage's store."""
    return store_root() / stage


def short_key(key: str) -> bytes:
    """Return the part of a key (64 hexadecimal digits) that the index holds."""
    return bytes.fromhex(key[: 2 * KEY_BYTES])


class _Header(NamedTuple):
    key: bytes
    n_meta: int
    n_blob: int
    checksum: int

    @property
    def n_bytes(self) -> int:
        return _HEADER_BYTES + self.n_meta + self.n_blob


class RowStore:
    """Store of one stage's finished rows. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with _not_writable_allowed():
            folder.mkdir(parents=True, exist_ok=True)
        self._packs: list[Path] = []
        self._readers: OrderedDict[int, int] = OrderedDict()  # pack number → descriptor, least recently used first
        self._writer: int | None = None
        self._own = -1
        self._recent: dict[bytes, tuple[int, int]] = {}
        scanned = bytearray()
        for pack in sorted(folder.glob("*.pack")):  # named by time: of equal keys the newest comes last
            self._packs.append(pack)
            try:
                for key, start in _scan(pack):
                    scanned += _PACKED_PLACE.pack(key, len(self._packs) - 1, start)
            except FileNotFoundError:  # deleted by `make gc` in the meantime
                continue
            except OSError as error:
                logger.warning("row store: %s is skipped (%s); its rows are computed again", pack, error.strerror)
        places = np.frombuffer(bytes(scanned), dtype=_PLACE) if scanned else np.empty(0, dtype=_PLACE)
        order = np.argsort(places["key"], kind="stable")
        self._keys, self._pack_numbers, self._starts = (
            np.ascontiguousarray(places[name][order]) for name in ("key", "pack", "start")
        )

    def __enter__(self) -> RowStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._readers.values():
            os.close(descriptor)
        self._readers.clear()
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    def __contains__(self, key: str) -> bool:
        return self._find(short_key(key)) is not None

    def contains(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return for each short key (N,) whether its row is stored."""
        self._settle()
        if not len(self._keys):
            return np.zeros(len(keys), dtype=np.bool_)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.asarray(self._keys[at] == keys)

    def put(self, key: str, meta: Mapping[str, Any], blob: bytes) -> None:
        """Append a finished row; `meta` must be JSON-serialisable."""
        if self._writer is None:
            self._writer = self._new_pack()
        packed = json.dumps(meta, sort_keys=True, ensure_ascii=False).encode("utf-8")
        fields = _FIELDS.pack(_MAGIC, bytes.fromhex(key), len(packed), len(blob))
        of_rest = xxh3_64(packed)
        of_rest.update(blob)
        record = [fields, _CHECKSUMS.pack(xxh3_64_intdigest(fields), of_rest.intdigest()), packed, blob]
        start = os.fstat(self._writer).st_size
        n_bytes = sum(map(len, record))
        n_written = os.writev(self._writer, record)
        if n_written < n_bytes:  # interrupted by a signal, or above the size limit of one call
            rest = memoryview(b"".join(record))[n_written:]
            while rest:
                rest = rest[os.write(self._writer, rest) :]
        self._recent[short_key(key)] = (self._own, start)
        if len(self._recent) >= MAX_RECENT:
            self._settle()

    def _new_pack(self) -> int:
        """Return the descriptor of a new pack, of an unnamed one if the store cannot be written."""
        pack = self.folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}.pack"
        self._packs.append(pack)
        self._own = len(self._packs) - 1
        with _not_writable_allowed():
            return os.open(pack, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o666)
        logger.warning("row store: %s is not writable; what this run computes is not kept for later runs", self.folder)
        with self.scratch_file() as stream:
            return os.dup(stream.fileno())

    def scratch_file(self) -> IO[bytes]:
        """Return an unnamed file on the disk of the store, or of temporary files if the store cannot be written."""
        with _not_writable_allowed():
            return tempfile.TemporaryFile(dir=self.folder)
        return tempfile.TemporaryFile()

    def get(self, key: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Return (meta, blob) of a short key, or None when the row is absent, deleted or corrupted."""
        place = self._find(key)
        if place is None:
            return None
        number, start = place
        try:
            if (record := _read_record(self._reader(number), key, start)) is not None:
                return record
            logger.warning("row store: a row in %s is damaged; it is computed again", self._packs[number])
        except FileNotFoundError:
            logger.warning("row store: %s is gone; its rows are computed again", self._packs[number])
        except OSError as error:
            logger.warning(
                "row store: %s cannot be read (%s); the row is computed again", self._packs[number], error.strerror
            )
        return None

    def _find(self, key: bytes) -> tuple[int, int] | None:
        if key in self._recent:
            return self._recent[key]
        at = int(np.searchsorted(self._keys, key, side="right")) - 1
        if at < 0 or self._keys[at : at + 1].tobytes() != key:
            return None
        return int(self._pack_numbers[at]), int(self._starts[at])

    def _reader(self, number: int) -> int:
        if number == self._own and self._writer is not None:
            return self._writer
        if number not in self._readers:
            self._readers[number] = _open_pack(self._packs[number])
            with _not_writable_allowed():  # a pack of another user
                os.utime(self._packs[number])
            if len(self._readers) > MAX_OPEN_PACKS:
                os.close(self._readers.popitem(last=False)[1])
        self._readers.move_to_end(number)
        return self._readers[number]

    def _settle(self) -> None:
        """Merge the rows of this run into the sorted index, after older rows with the same key."""
        if not self._recent:
            return
        keys = np.array(list(self._recent), dtype="S16")
        places = np.array(list(self._recent.values()), dtype=np.uint64)
        order = np.argsort(keys, kind="stable")
        at = np.searchsorted(self._keys, keys[order], side="right")
        self._keys = np.insert(self._keys, at, keys[order])
        self._pack_numbers = np.insert(self._pack_numbers, at, places[order, 0].astype(np.uint32))
        self._starts = np.insert(self._starts, at, places[order, 1])
        self._recent.clear()


def _read_header(descriptor: int, start: int) -> _Header | None:
    data = os.pread(descriptor, _HEADER_BYTES, start)
    if len(data) < _HEADER_BYTES:
        return None
    magic, key, n_meta, n_blob = _FIELDS.unpack_from(data)
    of_fields, of_rest = _CHECKSUMS.unpack_from(data, _FIELDS.size)
    if magic != _MAGIC or xxh3_64_intdigest(data[: _FIELDS.size]) != of_fields:
        return None
    return _Header(key[:KEY_BYTES], n_meta, n_blob, of_rest)


def _read_record(descriptor: int, key: bytes, start: int) -> tuple[dict[str, Any], bytes] | None:
    """Return (meta, blob) of the record at `start`, or None if it is damaged or of another key."""
    header = _read_header(descriptor, start)
    if header is None or header.key != key or start + header.n_bytes > os.fstat(descriptor).st_size:
        return None
    data = os.pread(descriptor, header.n_meta + header.n_blob, start + _HEADER_BYTES)
    if len(data) < header.n_meta + header.n_blob or xxh3_64_intdigest(data) != header.checksum:
        return None
    try:
        meta = json.loads(data[: header.n_meta])
    except (ValueError, RecursionError):
        return None
    return (meta, data[header.n_meta :]) if isinstance(meta, dict) else None


def _open_pack(pack: Path) -> int:
    """Return a descriptor of a regular file; raises OSError for anything else, without waiting for a pipe's writer."""
    descriptor = os.open(pack, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file", str(pack))
    return descriptor


@contextmanager
def _not_writable_allowed() -> Iterator[None]:
    """Pass over the error of a write to a store of another user or on a read-only file system."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT):
            raise


def _scan(pack: Path) -> Iterator[tuple[bytes, int]]:
    """Yield (short key, start) of every intact record up to the first damaged one."""
    descriptor = _open_pack(pack)
    try:
        size = os.fstat(descriptor).st_size
        start = 0
        while start < size:
            header = _read_header(descriptor, start)
            if header is None or start + header.n_bytes > size:
                logger.warning(
                    "row store: %s is cut off or damaged at byte %d; its later rows are computed again", pack, start
                )
                return
            yield header.key, start
            start += header.n_bytes
    finally:
        os.close(descriptor)
