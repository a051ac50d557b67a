"""Which weights of a run are kept, and how they become voices that can be loaded."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.training import Trainer
from stages.common.errors import PipelineError
from stages.common.files import atomic_path
from stages.training.settings import KeepParams, TrainParams

Log = Sequence[Mapping[str, float]]
PREFIX = "validation/"


@dataclass(frozen=True)
class Kept:
    """Steps whose weights are kept: the voice's own, and those of the extra checkpoints beside it."""

    voice: int
    extra: tuple[int, ...]

    def folder(self, step: int) -> str:
        """Return where below the voice's parent a step's weights are, empty for nowhere."""
        if step == self.voice:
            return "voice"
        return f"voice/{extra_folder(step)}" if step in self.extra else ""


def extra_folder(step: int) -> str:
    """Return the folder of an extra checkpoint below the voice."""
    return f"checkpoints/step-{step:06d}"


def validated_steps(log: Log) -> list[int]:
    """Return the steps that have validation values, in order."""
    return [int(row["step"]) for row in log if any(name.startswith(PREFIX) for name in row)]


def best_steps(log: Log, keep: KeepParams) -> list[int]:
    """Return the `keep.best` validated steps of the lowest value, the best first; of equals the earlier one counts."""
    values = {int(row["step"]): row[PREFIX + keep.by] for row in log if PREFIX + keep.by in row}
    return sorted(values, key=lambda step: (math.inf if math.isnan(values[step]) else values[step], step))[: keep.best]


def worth_storing(log: Log, keep: KeepParams) -> set[int]:
    """Return the validated steps whose weights may still be asked for, whatever comes."""
    return {*best_steps(log, keep), *(validated_steps(log)[-keep.last :] if keep.last > 1 else ())}


def kept_at_the_end(log: Log, params: TrainParams) -> Kept:
    """Return what is kept of a finished run, whose last step is validated."""
    steps, best = validated_steps(log), best_steps(log, params.keep)
    voice = best[0] if params.voice == "best" else steps[-1]
    return Kept(voice, tuple(sorted({*best, *steps[-params.keep.last :]} - {voice})))


def voice_tensors(trainer: Trainer) -> dict[str, dict[str, Tensor]]:
    """Return the weights to keep by network: the voice, and the judges that go on from where they are."""
    tensors = {"synthesizer": trainer.voice_state(), "discriminator": trainer.discriminator.state_dict()}
    if trainer.duration_discriminator is not None:
        tensors["duration_discriminator"] = trainer.duration_discriminator.state_dict()
    return tensors


def write_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint; a full disk is one clear error."""
    try:
        save_checkpoint(folder, tensors=tensors, metadata=metadata)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PipelineError(f"{folder.name}: cannot write the checkpoint ({reason}); free some space and run again: "
                            "what was trained is saved") from None  # fmt: skip


def read_checkpoint(folder: Path, names: Sequence[str] | None = None) -> dict[str, dict[str, Tensor]]:
    """Return the networks of a stored checkpoint."""
    try:
        return load_checkpoint(folder, names).tensors
    except CheckpointError as error:
        raise PipelineError(f"train: {error}") from None


def write_table(path: Path, log: Log, kept: Kept) -> None:
    """Write a row per validated step: where its weights are kept, and its validation values."""
    rows = [row for row in log if any(name.startswith(PREFIX) for name in row)]
    names = sorted({name for row in rows for name in row if name.startswith(PREFIX)})
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["step", "folder", *(name.removeprefix(PREFIX) for name in names)])
        for row in rows:
            writer.writerow([int(row["step"]), kept.folder(int(row["step"])), *(row.get(name, "") for name in names)])
