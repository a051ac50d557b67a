"""Choice of the weights that a run keeps, and their checkpoints."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.training.trainer import Trainer
from model.training.weight_average import average_weights
from stages.common.errors import PipelineError
from stages.common.files import write_csv
from stages.train.settings import KeepParams, TrainParams
from stages.train.work_folder import CHECKPOINTS, Artefacts

logger = logging.getLogger(__name__)

Log = Sequence[Mapping[str, float]]
PREFIX = "validation/"
AVERAGE_FOLDER = "checkpoints/average"


@dataclass(frozen=True)
class Kept:
    """Steps whose weights are kept: the voice's (None for the average), and those of the extra checkpoints."""

    voice: int | None
    extra: tuple[int, ...]

    def folder(self, step: int | None) -> str:
        """Return the folder of a step's weights, or of the average's (None), beside the voice; empty if not kept."""
        if step == self.voice:
            return "voice"
        if step is None:
            return f"voice/{AVERAGE_FOLDER}"
        return f"voice/{extra_folder(step)}" if step in self.extra else ""


@dataclass(frozen=True)
class Average:
    """Mean of the weights of several steps, and its validation values."""

    steps: tuple[int, ...]
    synthesizer: dict[str, Tensor]
    values: dict[str, float]


def extra_folder(step: int) -> str:
    """Return the folder of an extra checkpoint below the voice."""
    return f"checkpoints/step-{step:06d}"


def validated_steps(log: Log) -> list[int]:
    """Return the steps that have validation values, in order."""
    return [int(row["step"]) for row in log if any(name.startswith(PREFIX) for name in row)]


def best_steps(log: Log, keep: KeepParams) -> list[int]:
    """Return the `keep.best` best validated steps, the best first."""
    return ranked_steps(log, keep)[: keep.best]


def ranked_steps(log: Log, keep: KeepParams) -> list[int]:
    """Return the steps that have a value of `keep.by`, the best first.

    The earlier of equal steps ranks higher; NaN ranks last.
    """
    values = {int(row["step"]): row[PREFIX + keep.by] for row in log if PREFIX + keep.by in row}
    return sorted(values, key=lambda step: (math.inf if math.isnan(values[step]) else values[step], step))


def averaged_steps(log: Log, keep: KeepParams) -> list[int]:
    """Return the validated steps whose weights are averaged; none without `keep.average`."""
    return validated_steps(log)[-keep.average :] if keep.average else []


def worth_storing(log: Log, keep: KeepParams) -> set[int]:
    """Return the validated steps whose weights the end of the run may still need."""
    n_last = max(keep.last, keep.average)
    return {*best_steps(log, keep), *(validated_steps(log)[-n_last:] if n_last > 1 else ())}


def kept_at_the_end(log: Log, params: TrainParams) -> Kept:
    """Return the kept steps of a finished run, whose last step is validated.

    Without any value of `keep.by`, the last step counts as the best. Raises PipelineError if `train.voice` is a step
    that was not kept.
    """
    steps, best = validated_steps(log), best_steps(log, params.keep)
    kept = sorted({*best, *steps[-params.keep.last :]})
    if isinstance(params.voice, int):
        if params.voice not in kept:
            raise PipelineError(
                f"train.voice is step {params.voice}, whose weights were not kept; "
                f"kept: {', '.join(map(str, kept))} (see train.keep)"
            )
        voice: int | None = params.voice
    else:
        voice = {"last": steps[-1], "best": best[0] if best else steps[-1], "average": None}[params.voice]
    if params.voice == "best" and not best:
        logger.warning("train: %s could not be measured at any step; the last weights become the voice", params.keep.by)
    return Kept(voice, tuple(step for step in kept if step != voice))


def describe_choice(log: Log, params: TrainParams, kept: Kept, average: Average | None) -> dict[str, Any]:
    """Return how the voice was chosen: the metric, and its values for the voice, the runner-up and the average."""
    name = params.keep.by
    values = {int(row["step"]): row[PREFIX + name] for row in log if PREFIX + name in row}
    others = [step for step in ranked_steps(log, params.keep) if step != kept.voice]
    of_average = {"averaged_steps": list(average.steps), "average_value": average.values.get(name)} if average else {}
    return {
        "voice": params.voice,
        "by": name,
        "step": kept.voice,
        "value": values.get(kept.voice) if kept.voice else of_average.get("average_value"),
        "runner_up": {"step": others[0], "value": values[others[0]]} if others else None,
        **of_average,
    }


def voice_tensors(trainer: Trainer) -> dict[str, dict[str, Tensor]]:
    """Return the weights to save by network: the voice (EMA weights), and the discriminators for later training."""
    tensors = {"synthesizer": trainer.voice_state(), "discriminator": trainer.discriminator.state_dict()}
    if trainer.duration_discriminator is not None:
        tensors["duration_discriminator"] = trainer.duration_discriminator.state_dict()
    return tensors


def weights_of_step(
    step: int, names: Sequence[str] | None, trainer: Trainer, artefacts: Artefacts
) -> dict[str, dict[str, Tensor]]:
    """Return the networks `names` (None for all) of a stored step or of the trainer's current one."""
    if step == trainer.step_count:
        return {name: tensors for name, tensors in voice_tensors(trainer).items() if names is None or name in names}
    return read_checkpoint(artefacts.work / artefacts.name(CHECKPOINTS, step), names)


def average_of_steps(steps: Sequence[int], trainer: Trainer, artefacts: Artefacts) -> dict[str, Tensor]:
    """Return the mean of the synthesizer's weights over stored steps; raises PipelineError if they do not match."""
    try:
        return average_weights(
            weights_of_step(step, ["synthesizer"], trainer, artefacts)["synthesizer"] for step in steps
        )
    except ValueError as error:
        raise PipelineError(
            f"train: the checkpoints of steps {', '.join(map(str, steps))}: {error}; "
            f"delete {artefacts.work} and train again"
        ) from None


def write_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint; raises PipelineError if the disk is full."""
    try:
        save_checkpoint(folder, tensors=tensors, metadata=metadata)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PipelineError(
            f"{folder.name}: cannot write the checkpoint ({reason}); free some space and run again: "
            "the training state is saved"
        ) from None


def read_checkpoint(folder: Path, names: Sequence[str] | None = None) -> dict[str, dict[str, Tensor]]:
    """Return the networks of a stored checkpoint."""
    try:
        return load_checkpoint(folder, names).tensors
    except CheckpointError as error:
        raise PipelineError(f"train: {error}") from None


def write_table(path: Path, log: Log, keep: KeepParams, kept: Kept, average: Average | None) -> None:
    """Write a row per validated step: folder of its weights, rank by `keep.by`, and validation values.

    The average has the last row, without a rank; its step lists the averaged ones: 1000+1250+1350.
    """
    place = f"place_by_{keep.by}"
    ranks = {step: rank for rank, step in enumerate(ranked_steps(log, keep), start=1)}
    rows: list[dict[str, Any]] = [
        {
            "step": int(row["step"]),
            "folder": kept.folder(int(row["step"])),
            place: ranks.get(int(row["step"])),
            **values,
        }
        for row in log
        if (values := {name.removeprefix(PREFIX): row[name] for name in row if name.startswith(PREFIX)})
    ]
    names = sorted({name for row in rows for name in row} - {"step", "folder", place})
    if average:
        rows.append({"step": "+".join(map(str, average.steps)), "folder": kept.folder(None), **average.values})
    write_csv(path, pd.DataFrame(rows, columns=["step", "folder", place, *names], dtype=object))
