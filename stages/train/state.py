"""Resumable state of a training run: checksummed, written atomically, read only by a run with the same fingerprint.

A state file is 64 hexadecimal digits (the sha256 of the rest), a line end, and the output of torch.save.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.distributed as dist

from stages.common.errors import PipelineError
from stages.common.files import atomic_path

logger = logging.getLogger(__name__)

STATES_KEPT = 2
DIGEST_CHARACTERS = 64
STATE_NAME = re.compile(r"state-(\d{8})\.pt")


@dataclass
class Position:
    """Position in the data: the next batch is number `batch` of epoch `epoch`."""

    epoch: int = 0
    batch: int = 0


@dataclass
class RunningMeans:
    """Means of named values since the last reset."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: dict[str, float]) -> None:
        """Add one step's values."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Return the means and reset them."""
        means = {name: self.sums[name] / self.counts[name] for name in sorted(self.sums)}
        self.sums.clear()
        self.counts.clear()
        return means


@dataclass
class RunState:
    """State needed to resume a run, besides the trainer's state and the random states.

    `artefacts`: folder below the work folder → digest, for the checkpoints and samples that the outputs need.
    `ended`: why the run ended, empty while it runs. `seconds`: time spent in the training loop.
    """

    position: Position = field(default_factory=Position)
    log: list[dict[str, float]] = field(default_factory=list)
    means: RunningMeans = field(default_factory=RunningMeans)
    artefacts: dict[str, str] = field(default_factory=dict)
    transfer: dict[str, Any] | None = None
    seconds: float = 0.0
    ended: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, for torch.save."""
        return {
            "position": vars(self.position),
            "log": self.log,
            "means": vars(self.means),
            "artefacts": self.artefacts,
            "transfer": self.transfer,
            "seconds": self.seconds,
            "ended": self.ended,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunState:
        """Return the state from the output of `to_dict`."""
        return cls(**{**values, "position": Position(**values["position"]), "means": RunningMeans(**values["means"])})


class DamagedStateError(Exception):
    """Error for an unusable state file; the text says why."""


def state_files(work: Path) -> dict[int, Path]:
    """Return step → state file of a work folder, the newest first; other files are ignored."""
    files = {int(match[1]): path for path in work.iterdir() if (match := STATE_NAME.fullmatch(path.name))}
    return dict(sorted(files.items(), reverse=True))


def save_state(work: Path, step: int, trainer_state: dict[str, Any], run: RunState) -> None:
    """Write the state after a step, with every rank's random state, and delete all but the newest two up to it.

    All ranks call it, rank 0 writes. Raises PipelineError if the disk is full, with earlier states untouched.
    """
    random_states = gather(_random_state())
    if dist.is_initialized() and dist.get_rank() != 0:
        return
    path = work / f"state-{step:08d}.pt"
    try:
        with atomic_path(path) as temporary, temporary.open("w+b") as stream:
            _write(stream, {"trainer": trainer_state, "run": run.to_dict(), "random_states": random_states})
    except OSError as error:
        raise PipelineError(
            f"{path}: cannot save the training state ({error.strerror or error}); free some space and run again: "
            "it resumes from the previous state"
        ) from None
    for _, old in [item for item in state_files(work).items() if item[0] <= step][STATES_KEPT:]:
        old.unlink()


def gather(value: Any) -> list[Any]:
    """Return every rank's value, on all ranks."""
    if not dist.is_initialized():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def from_first_rank(value: Any) -> Any:
    """Return rank 0's value, on all ranks."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def read_state(path: Path) -> dict[str, Any]:
    """Return a state file's content. Raises DamagedStateError for a truncated or altered file."""
    try:
        with path.open("rb") as stream:
            expected = stream.read(DIGEST_CHARACTERS + 1)[:-1].decode("ascii", errors="replace")
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
            if actual != expected:
                raise DamagedStateError("truncated or altered: its checksum differs")
            stream.seek(DIGEST_CHARACTERS + 1)
            state: dict[str, Any] = torch.load(stream, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DamagedStateError(error.strerror or str(error)) from None
    return state


def restore_random_state(state: dict[str, Any], rank: int) -> None:
    """Restore a rank's random state."""
    own = state["random_states"][rank]
    torch.set_rng_state(own["cpu"])
    if torch.cuda.is_available() and own["cuda"] is not None:
        torch.cuda.set_rng_state(own["cuda"])


def _random_state() -> dict[str, torch.Tensor | None]:
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


class _HashingWriter(io.BytesIO):
    """Stream that hashes its output on the way: a state is too large to be hashed in memory."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self.stream = stream
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        self.digest.update(data)
        try:
            return self.stream.write(data)
        except OSError as error:
            self.error = error
            raise


def _write(stream: BinaryIO, content: dict[str, Any]) -> None:
    stream.write(b"0" * DIGEST_CHARACTERS + b"\n")
    writer = _HashingWriter(stream)
    try:
        torch.save(content, writer)
    except RuntimeError:
        if writer.error is None:
            raise
        raise writer.error from None  # torch.save hides the OSError behind a RuntimeError
    stream.seek(0)
    stream.write(writer.digest.hexdigest().encode("ascii"))
