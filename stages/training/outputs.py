"""What a finished run leaves: the voice, the checkpoints kept beside it, and the report."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvclive import Live
from torch import Tensor

from model.config import ModelConfig
from model.text.symbols import SymbolTable
from model.training import Trainer
from stages.common.files import write_json
from stages.common.training_data import CorpusFacts
from stages.training.checkpoints import PREFIX, extra_folder, kept_at_the_end, read_checkpoint, voice_tensors, write_checkpoint, write_table
from stages.training.curves import write_curves
from stages.training.settings import TrainParams, TrainPaths
from stages.training.state import RunState
from stages.training.work_folder import CHECKPOINTS, SAMPLES, Artefacts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFacts:
    """What was trained, from what; `batches` describes the batches of the first epoch."""

    params: TrainParams
    corpus: CorpusFacts
    model: ModelConfig
    symbols: SymbolTable
    lineage: dict[str, Any]
    batches: dict[str, Any]

    def metadata(self, state: RunState, step: int) -> dict[str, Any]:
        """Return what is saved beside the weights of a step: all that speaking with them needs, and where they come from."""
        validation = {name.removeprefix(PREFIX): value for row in state.log if int(row["step"]) == step
                      for name, value in row.items() if name.startswith(PREFIX)}  # fmt: skip
        return {
            "model": self.model.to_dict(), "spectrogram": vars(self.corpus.spectrogram), "posterior_input": self.params.posterior_input,
            "symbols": self.symbols.to_dict(), "add_blank": self.params.add_blank, "speakers": list(self.corpus.speakers),
            "encoders": self.corpus.encoders, "lexicon": self.corpus.lexicon, "source_note": self.corpus.source_note, "lineage": self.lineage,
            "style": self._style(), "step": step, "validation": validation, "ended_by": state.ended, "base_voice": state.transfer,
        }  # fmt: skip

    def _style(self) -> dict[str, float]:
        """Return how the voice speaks unless told otherwise: a decoder that learnt from the text's latents gets them as it did."""
        settings = self.params.optimisation
        noise = {"noise_scale": settings.decode_prior_noise} if settings.decode_prior_share else {}
        return noise if self.model.use_sdp else {**noise, "sdp_ratio": 0.0}


def write_outputs(paths: TrainPaths, facts: RunFacts, state: RunState, trainer: Trainer, artefacts: Artefacts) -> None:
    """Write the voice and the report of a finished run: the same bytes however often it was interrupted."""
    kept = kept_at_the_end(state.log, facts.params)

    def weights(step: int, names: Sequence[str] | None) -> Mapping[str, Mapping[str, Tensor]]:
        if step == trainer.step_count:
            return {name: tensors for name, tensors in voice_tensors(trainer).items() if names is None or name in names}
        return read_checkpoint(paths.work / artefacts.name(CHECKPOINTS, step), names)

    logger.debug("voice: writes")
    write_checkpoint(paths.voice, weights(kept.voice, None), facts.metadata(state, kept.voice))
    for step in kept.extra:
        write_checkpoint(paths.voice / extra_folder(step), weights(step, ["synthesizer"]), facts.metadata(state, step))
    logger.debug("report: writes")
    _write_log(paths.report, state.log)
    write_curves(paths.report / "curves.png", state.log)
    write_table(paths.report / "checkpoints.csv", state.log, kept)
    write_json(paths.report / "batches.json", facts.batches)
    if state.transfer is not None:
        write_json(paths.report / "transfer.json", state.transfer)
    _copy_samples(paths, state)


def _write_log(folder: Path, log: Sequence[Mapping[str, float]]) -> None:
    live = Live(str(folder), report=None, dvcyaml=None, save_dvc_exp=False, monitor_system=False)
    for row in log:
        live.step = int(row["step"])
        for name, value in row.items():
            if name != "step":
                live.log_metric(name, value)
        live.sync()
    live.end()


def _copy_samples(paths: TrainPaths, state: RunState) -> None:
    """Copy samples to report/samples/step-000500 and pictures to report/alignments/step-000500."""
    for name in sorted(name for name in state.artefacts if name.startswith(SAMPLES)):
        step = int(name.rpartition("-")[2])
        for source in sorted((paths.work / name).iterdir()):
            target = paths.report / ("alignments" if source.suffix == ".png" else "samples") / f"step-{step:06d}" / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
