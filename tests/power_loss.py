"""A disk that forgets, in a power loss, whatever was not flushed to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

Identity = tuple[int, int]


class ForgetfulDisk:
    """Record of what os.fsync made durable: the content of files, and the names in folders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.contents: dict[Identity, bytes] = {}
        self.names: dict[Identity, dict[str, Identity]] = {}
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self.flush)

    def flush(self, descriptor: int) -> None:
        """Take the place of os.fsync."""
        self._fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self.names[_identity(path)] = {entry.name: _identity(entry) for entry in path.iterdir()}
        else:
            self.contents[_identity(path)] = path.read_bytes()

    def after_power_loss(self, folder: Path) -> dict[str, bytes]:
        """Return the files below a folder that exists durably, by their relative paths, with their durable content."""
        return self._below(_identity(folder))

    def _below(self, folder: Identity) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name, identity in self.names.get(folder, {}).items():
            if identity in self.names:
                found |= {f"{name}/{inner}": content for inner, content in self._below(identity).items()}
            else:
                found[name] = self.contents.get(identity, b"")
        return found


def _identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_dev, status.st_ino
