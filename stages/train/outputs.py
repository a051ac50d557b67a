"""Outputs of a finished run: the voice, kept checkpoints and the report."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvclive import Live

from model.config import ModelConfig
from model.text.symbols import SymbolTable
from model.training.trainer import Trainer
from stages.common.files import write_json
from stages.train.checkpoints import (
    AVERAGE_FOLDER,
    PREFIX,
    Average,
    describe_choice,
    extra_folder,
    kept_at_the_end,
    voice_tensors,
    weights_of_step,
    write_checkpoint,
    write_table,
)
from stages.train.curves import write_curves
from stages.train.manifest_source import CorpusFacts
from stages.train.settings import TrainParams, TrainPaths, own_style
from stages.train.state import RunState
from stages.train.work_folder import SAMPLES, Artefacts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run for metadata and report; `batches` describes the first epoch's batches."""

    params: TrainParams
    corpus: CorpusFacts
    model: ModelConfig
    symbols: SymbolTable
    lineage: dict[str, Any]
    batches: dict[str, Any]

    def metadata(self, state: RunState, step: int) -> dict[str, Any]:
        """Return the metadata of a step's weights: all that synthesis needs, and their lineage."""
        validation = {
            name.removeprefix(PREFIX): value
            for row in state.log
            if int(row["step"]) == step
            for name, value in row.items()
            if name.startswith(PREFIX)
        }
        return {
            "model": self.model.to_dict(),
            "spectrogram": vars(self.corpus.spectrogram),
            "posterior_input": self.params.posterior_input,
            "symbols": self.symbols.to_dict(),
            "add_blank": self.params.add_blank,
            "speakers": list(self.corpus.speakers),
            "encoders": self.corpus.encoders,
            "lexicon": self.corpus.lexicon,
            "source_note": self.corpus.source_note,
            "lineage": self.lineage,
            "style": own_style(self.params, self.model),
            "step": step,
            "validation": validation,
            "ended_by": state.ended,
            "base_voice": state.transfer,
        }


def write_outputs(
    paths: TrainPaths, facts: RunFacts, state: RunState, trainer: Trainer, artefacts: Artefacts, average: Average | None
) -> None:
    """Write the voice and the report of a finished run; the bytes do not depend on interruptions."""
    kept = kept_at_the_end(state.log, facts.params)
    choice = describe_choice(state.log, facts.params, kept, average)
    logger.info("train: the voice is %s", _describe(choice))
    logger.debug("voice: writing")
    if kept.voice is not None:
        own = {**facts.metadata(state, kept.voice), "choice": choice}
        write_checkpoint(paths.voice, weights_of_step(kept.voice, None, trainer, artefacts), own)
    if average:
        of_average = {
            **facts.metadata(state, average.steps[-1]),
            "validation": average.values,
            "averaged_steps": list(average.steps),
        }
        if kept.voice is None:
            write_checkpoint(
                paths.voice,
                {**voice_tensors(trainer), "synthesizer": average.synthesizer},
                {**of_average, "choice": choice},
            )
        else:
            write_checkpoint(paths.voice / AVERAGE_FOLDER, {"synthesizer": average.synthesizer}, of_average)
    for step in kept.extra:
        write_checkpoint(
            paths.voice / extra_folder(step),
            weights_of_step(step, ["synthesizer"], trainer, artefacts),
            facts.metadata(state, step),
        )
    logger.debug("report: writing")
    _write_log(paths.report, state.log, average)
    write_curves(paths.report / "curves.png", state.log)
    write_table(paths.report / "checkpoints.csv", state.log, facts.params.keep, kept, average)
    write_json(paths.report / "batches.json", facts.batches)
    if state.transfer is not None:
        write_json(paths.report / "transfer.json", state.transfer)
    _copy_samples(paths, state)


def _describe(choice: Mapping[str, Any]) -> str:
    """Return the choice for the log: its value and those of the alternatives."""

    def with_value(name: str, value: float | None) -> str:
        return f"{name} ({'not measured' if value is None else f'{value:.4g}'})"

    steps = "+".join(map(str, choice.get("averaged_steps", ())))
    words = with_value(
        f"the average of steps {steps}" if choice["step"] is None else f"step {choice['step']}", choice["value"]
    )
    if choice["runner_up"]:
        words += (
            f"; the best other step is {with_value(str(choice['runner_up']['step']), choice['runner_up']['value'])}"
        )
    if steps and choice["step"] is not None:
        words += f"; {with_value(f'the average of steps {steps}', choice['average_value'])}"
    return f"{words}, by {choice['by']}"


def _write_log(folder: Path, log: Sequence[Mapping[str, float]], average: Average | None) -> None:
    live = Live(str(folder), report=None, dvcyaml=None, save_dvc_exp=False, monitor_system=False)
    for row in log:
        live.step = int(row["step"])
        for name, value in row.items():
            if name != "step":
                live.log_metric(name, value)
        live.sync()
    if average:
        live.summary["average"] = average.values
    live.end()


def _copy_samples(paths: TrainPaths, state: RunState) -> None:
    """Copy samples to report/samples/step-000500 and pictures to report/alignments/step-000500."""
    for name in sorted(name for name in state.artefacts if name.startswith(SAMPLES)):
        step = int(name.rpartition("-")[2])
        for source in sorted((paths.work / name).iterdir()):
            target = (
                paths.report
                / ("alignments" if source.suffix == ".png" else "samples")
                / f"step-{step:06d}"
                / source.name
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
