"""The reusable row store: finished rows by key, outside DVC's outputs, safe to delete at any time.

A key hashes all that a row depends on (content, params, code), so an entry is right or absent, never stale. Rows lie
in append-only packs. Every process writes a pack of its own; a reader scans the headers and ignores a tail that a
crash cut off. Each record carries a checksum: a corrupted row is reported and computed again. A pack's time of modification
is its last use, by which `make gc` chooses; a pack deleted while a run goes on is only so many rows to compute again.

Record: magic (4) | key (32) | length of meta (4) | length of blob (8) | sha256 of meta + blob (32) | meta | blob.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

logger = logging.getLogger(__name__)

_HEADER = struct.Struct("<4s32sIQ32s")
_MAGIC = b"row1"
DEFAULT_FOLDER = ".rows"


def store_root() -> Path:
    """Return the folder of all stages' stores: VOICE_ROW_STORE when that is set, else .rows in the working folder."""
    return Path(os.environ.get("VOICE_ROW_STORE", DEFAULT_FOLDER))


def store_folder(stage: str) -> Path:
    """Return the stage's store."""
    return store_root() / stage


class RowStore:
    """Finished rows of one stage. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._places: dict[str, tuple[Path, int, int, int, bytes]] = {}
        self._readers: dict[Path, int] = {}
        # Named by time: a row that was damaged and computed again is found in its newer pack.
        self._pack = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}.pack"
        self._writer: int | None = None
        for pack in sorted(folder.glob("*.pack")):
            with suppress(FileNotFoundError):  # collected as garbage a moment ago
                self._scan(pack)

    def __enter__(self) -> RowStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for descriptor in self._readers.values():
            os.close(descriptor)
        self._readers.clear()
        self._writer = None

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def _scan(self, pack: Path) -> None:
        with pack.open("rb") as stream:
            size = pack.stat().st_size
            while True:
                header = stream.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    return
                magic, key, n_meta, n_blob, checksum = _HEADER.unpack(header)
                start = stream.tell()
                if magic != _MAGIC or start + n_meta + n_blob > size:
                    logger.warning("row store: %s is cut off or damaged at byte %d; its later rows are computed again", pack, start)
                    return
                self._places[key.hex()] = (pack, start, n_meta, n_blob, checksum)
                stream.seek(start + n_meta + n_blob)

    def put(self, key: str, meta: Mapping[str, Any], blob: bytes) -> None:
        """Append a finished row; `meta` must be JSON-serialisable."""
        if self._writer is None:
            self._writer = os.open(self._pack, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o666)
            self._readers[self._pack] = self._writer
        packed = json.dumps(meta, sort_keys=True, ensure_ascii=False).encode("utf-8")
        checksum = hashlib.sha256(packed + blob).digest()
        record = memoryview(_HEADER.pack(_MAGIC, bytes.fromhex(key), len(packed), len(blob), checksum) + packed + blob)
        start = os.fstat(self._writer).st_size + _HEADER.size
        while record:
            record = record[os.write(self._writer, record) :]
        self._places[key] = (self._pack, start, len(packed), len(blob), checksum)

    def get(self, key: str) -> tuple[dict[str, Any], bytes] | None:
        """Return (meta, blob), or None when the row is absent or its checksum does not match."""
        if key not in self._places:
            return None
        pack, start, n_meta, n_blob, checksum = self._places[key]
        if pack not in self._readers:
            try:
                self._readers[pack] = os.open(pack, os.O_RDONLY)
                with suppress(PermissionError):  # a store that others share
                    os.utime(pack)
            except FileNotFoundError:
                logger.warning("row store: %s is gone; its rows are computed again", pack)
                self._places = {other: place for other, place in self._places.items() if place[0] != pack}
                return None
        data = os.pread(self._readers[pack], n_meta + n_blob, start)
        if hashlib.sha256(data).digest() != checksum:
            logger.warning("row store: a row in %s is damaged; it is computed again", pack)
            del self._places[key]
            return None
        return json.loads(data[:n_meta]), data[n_meta:]
