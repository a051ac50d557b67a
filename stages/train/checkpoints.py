"""Which weights of a run are kept, and how they become voices that can be loaded."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.training.trainer import Trainer
from model.training.weight_average import average_weights
from stages.common.errors import PipelineError
from stages.common.files import atomic_path
from stages.train.settings import KeepParams, TrainParams
from stages.train.work_folder import CHECKPOINTS, Artefacts

logger = logging.getLogger(__name__)

Log = Sequence[Mapping[str, float]]
PREFIX = "validation/"
AVERAGE_FOLDER = "checkpoints/average"


@dataclass(frozen=True)
class Kept:
    """Steps whose weights are kept: the voice's own (None: the average's), and those of the extra checkpoints beside
    it.
    """

    voice: int | None
    extra: tuple[int, ...]

    def folder(self, step: int | None) -> str:
        """Return where below the voice's parent a step's weights are, or the average (None); empty for nowhere."""
        if step == self.voice:
            return "voice"
        if step is None:
            return f"voice/{AVERAGE_FOLDER}"
        return f"voice/{extra_folder(step)}" if step in self.extra else ""


@dataclass(frozen=True)
class Average:
    """The mean of the weights of some steps, and its own validation values."""

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
    """Return the `keep.best` validated steps of the best value, the best first."""
    return ranked_steps(log, keep)[: keep.best]


def ranked_steps(log: Log, keep: KeepParams) -> list[int]:
    """Return the steps that have the value `keep.by`, the best first; of equals the earlier one counts, and NaN is the
    worst.
    """
    values = {int(row["step"]): row[PREFIX + keep.by] for row in log if PREFIX + keep.by in row}
    return sorted(values, key=lambda step: (math.inf if math.isnan(values[step]) else values[step], step))


def averaged_steps(log: Log, keep: KeepParams) -> list[int]:
    """Return the validated steps whose weights are averaged, none where no average is asked for."""
    return validated_steps(log)[-keep.average :] if keep.average else []


def worth_storing(log: Log, keep: KeepParams) -> set[int]:
    """Return the validated steps whose weights may still be asked for, whatever comes."""
    n_last = max(keep.last, keep.average)
    return {*best_steps(log, keep), *(validated_steps(log)[-n_last:] if n_last > 1 else ())}


def kept_at_the_end(log: Log, params: TrainParams) -> Kept:
    """Return what is kept of a finished run, whose last step is validated; without any value to choose by, the last is
    the best.

    Raises PipelineError where `train.voice` is a step that was not kept.
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
        logger.warning("train: %s could not be measured at any step: the last weights become the voice", params.keep.by)
    return Kept(voice, tuple(step for step in kept if step != voice))


def describe_choice(log: Log, params: TrainParams, kept: Kept, average: Average | None) -> dict[str, Any]:
    """Return how the voice was chosen: by which value, that value of it, of the best other step, and of the average."""
    name = params.keep.by
    values = {int(row["step"]): row[PREFIX + name] for row in log if PREFIX + name in row}
    others = [step for step in ranked_steps(log, params.keep) if step != kept.voice]
    means = {"averaged_steps": list(average.steps), "average_value": average.values.get(name)} if average else {}
    return {
        "voice": params.voice,
        "by": name,
        "step": kept.voice,
        "value": values.get(kept.voice) if kept.voice else means.get("average_value"),
        "runner_up": {"step": others[0], "value": values[others[0]]} if others else None,
        **means,
    }


def voice_tensors(trainer: Trainer) -> dict[str, dict[str, Tensor]]:
    """Return the weights to keep by network: the voice, and the judges that go on from where they are."""
    tensors = {"synthesizer": trainer.voice_state(), "discriminator": trainer.discriminator.state_dict()}
    if trainer.duration_discriminator is not None:
        tensors["duration_discriminator"] = trainer.duration_discriminator.state_dict()
    return tensors


def weights_of_step(
    step: int, names: Sequence[str] | None, trainer: Trainer, artefacts: Artefacts
) -> dict[str, dict[str, Tensor]]:
    """Return networks (None: all) of a step whose weights are stored, or are the trainer's own."""
    if step == trainer.step_count:
        return {name: tensors for name, tensors in voice_tensors(trainer).items() if names is None or name in names}
    return read_checkpoint(artefacts.work / artefacts.name(CHECKPOINTS, step), names)


def average_of_steps(steps: Sequence[int], trainer: Trainer, artefacts: Artefacts) -> dict[str, Tensor]:
    """Return the mean of the synthesizer's weights over stored steps."""
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
    """Write a checkpoint; a full disk is one clear error."""
    try:
        save_checkpoint(folder, tensors=tensors, metadata=metadata)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PipelineError(
            f"{folder.name}: cannot write the checkpoint ({reason}); free some space and run again: "
            "what was trained is saved"
        ) from None


def read_checkpoint(folder: Path, names: Sequence[str] | None = None) -> dict[str, dict[str, Tensor]]:
    """Return the networks of a stored checkpoint."""
    try:
        return load_checkpoint(folder, names).tensors
    except CheckpointError as error:
        raise PipelineError(f"train: {error}") from None


def write_table(path: Path, log: Log, keep: KeepParams, kept: Kept, average: Average | None) -> None:
    """Write a row per validated step: where its weights are kept, its place by `keep.by`, and its validation values.

    The average has a row below them, without a place; its step names all that it is of: 1000+1250+1350.
    """
    rows = [row for row in log if any(name.startswith(PREFIX) for name in row)]
    names = sorted({name.removeprefix(PREFIX) for row in rows for name in row if name.startswith(PREFIX)})
    places = {step: place for place, step in enumerate(ranked_steps(log, keep), start=1)}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["step", "folder", f"place_by_{keep.by}", *names])
        for row in rows:
            step = int(row["step"])
            writer.writerow(
                [step, kept.folder(step), places.get(step, ""), *(row.get(PREFIX + name, "") for name in names)]
            )
        if average:
            steps = "+".join(map(str, average.steps))
            writer.writerow([steps, kept.folder(None), "", *(average.values.get(name, "") for name in names)])
