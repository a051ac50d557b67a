"""Atomic file and folder output: whatever has its final name is complete, even after a power loss.

Content is flushed to the disk before its name appears, and the name before the next step relies on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.printable import csv_cell

if TYPE_CHECKING:
    import pandas as pd


def work_root() -> Path:
    """Return the folder for intermediate files (training states, lists of rejects): VOICE_WORK_DIR, or .work."""
    return Path(os.environ.get("VOICE_WORK_DIR", ".work"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed over it on success, removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` on success: a stage's output is complete or absent.

    An existing `folder` is replaced. Temporary folders of killed processes are removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left_over in folder.parent.glob(f".{folder.name}.*.tmp"):
        if not _is_running(left_over.name.split(".")[-3]):
            shutil.rmtree(left_over, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for place, _, names in os.walk(temporary, topdown=False):
            for name in names:
                _flush(Path(place) / name)
            _flush(Path(place))
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flush(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_running(process: str) -> bool:
    """Return whether a process id is in use; anything that is not a process id counts as running."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Write `value` as sorted, indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame, *, float_format: str | None = None) -> None:
    """Write a table without its index, atomically; missing values are empty cells, and text is no formula."""
    safe = table.rename(columns=csv_cell)
    for name, dtype in safe.dtypes.items():
        if dtype.kind not in "biufc":
            safe[name] = [csv_cell(value) if isinstance(value, str) else value for value in safe[name]]
    with atomic_path(path) as temporary:
        safe.to_csv(temporary, index=False, lineterminator="\n", float_format=float_format)


def content_key(*parts: Any) -> str:
    """Return the SHA-256 (hex) of JSON-serialisable `parts`, as a key of the work that depends on them."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()
