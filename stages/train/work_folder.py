"""Work folder of a run: an exclusive lock, and artefacts (folders that the outputs need)."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stages.common.errors import PipelineError
from stages.common.files import output_folder

logger = logging.getLogger(__name__)

LOCK_SECONDS = 30.0  # ranks of a killed run take a moment to exit
LEFTOVERS = re.compile(r"\.(state-\d{8}\.pt|durations\.npz|pitch\.npz|step-\d{8})\..+\.tmp")
CHECKPOINTS, SAMPLES = "checkpoints", "samples"


@contextmanager
def exclusive_lock(work: Path) -> Iterator[None]:
    """Lock the work folder for this process and remove incomplete files of a killed one.

    Raises PipelineError if another process keeps the lock. The OS releases it even after a crash.
    """
    with (work / "lock").open("a") as stream:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _locked(stream.fileno()):
            if time.monotonic() > deadline:
                raise PipelineError(
                    f"{work}: another process is training this run; wait for it, or end it and run again"
                )
            time.sleep(0.1)
        _remove_leftovers(work)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.warning(
            "train: this file system has no locks (%s); make sure that no other process trains the same run",
            error.strerror,
        )
    return True


def _remove_leftovers(work: Path) -> None:
    for folder in (work, work / CHECKPOINTS, work / SAMPLES):
        for path in folder.iterdir() if folder.is_dir() else ():
            if LEFTOVERS.fullmatch(path.name):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


class Artefacts:
    """Folders `kind/step-00000750` below a work folder, written atomically and identified by a digest."""

    def __init__(self, work: Path) -> None:
        self.work = work

    @staticmethod
    def name(kind: str, step: int) -> str:
        """Return an artefact's name: its path below the work folder."""
        return f"{kind}/step-{step:08d}"

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary folder that becomes the artefact on success."""
        with output_folder(self.work / name) as folder:
            yield folder

    def digest(self, name: str) -> str:
        """Return the sha256 over names and contents of an artefact's files; of no data if it is missing."""
        digest = hashlib.sha256()
        folder = self.work / name
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def damaged(self, digests: Mapping[str, str]) -> list[str]:
        """Return the names of artefacts that are missing or altered."""
        return [name for name, digest in digests.items() if self.digest(name) != digest]

    def remove_checkpoints(self, needed: Iterable[str]) -> None:
        """Delete checkpoints other than `needed`; folders with other names are left alone."""
        keep = set(needed)
        folder = self.work / CHECKPOINTS
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if re.fullmatch(r"step-\d{8}", path.name) and f"{CHECKPOINTS}/{path.name}" not in keep:
                shutil.rmtree(path)
