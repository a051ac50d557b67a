"""One rank's training run: durations, steps, validation, resumable state, and the voice at the end."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from dvclive import Live
from torch import Tensor
from torch.utils.data import DataLoader

from model.checkpoint import save_checkpoint
from model.dataset import Batch, BatchDataset
from model.sampler import BatchSampler
from model.text.symbols import SymbolTable
from model.training import Trainer
from stages.common.errors import PipelineError
from stages.common.progress import progress_bar
from stages.common.training_data import ManifestSource, read_split
from stages.training.curves import write_curves
from stages.training.durations import Durations, learn_durations
from stages.training.settings import TrainParams, TrainPaths
from stages.training.state import Position, RunningMeans, load_state, save_state

logger = logging.getLogger(__name__)

STATE_NAME = "state.pt"


class TrainingRun:
    """All that one rank does. Rank 0 also logs, saves and writes the voice."""

    def __init__(self, params: TrainParams, paths: TrainPaths, lineage: dict[str, Any], *, rank: int, n_ranks: int, device: torch.device) -> None:
        self.params = params
        self.paths = paths
        self.lineage = lineage
        self.rank = rank
        self.device = device
        self.symbols = SymbolTable()
        table, self.facts = read_split(paths.data.split)
        self.train_source = self._source(table, "train")
        self.validation_source = self._source(table, "validation")
        self.model_config, discriminator_config = params.networks(self.facts, self.symbols)
        self._check_lengths()
        self.trainer = Trainer(self.model_config, discriminator_config, params.optimisation, self.facts.spectrogram, device)
        self.sampler = BatchSampler(self.train_source.n_frames, params.optimisation.batch_size, params.optimisation.max_batch_frames,
                                    params.optimisation.seed, rank, n_ranks)  # fmt: skip
        self.position = Position()
        self.log: list[dict[str, float]] = []
        self.means = RunningMeans()
        self.durations: list[Durations] = []

    def _source(self, table: Any, subset: str) -> ManifestSource:
        return ManifestSource(self.paths.data, table, self.facts, subset, self.symbols, self.params.add_blank)

    def _check_lengths(self) -> None:
        for source, subset in ((self.train_source, "train"), (self.validation_source, "validation")):
            if len(source) == 0:
                raise PipelineError(f"train: the {subset} set is empty; see the split stage's rejects.parquet")
        longest = int(self.train_source.n_frames.max())
        if longest < self.model_config.segment_frames:
            raise PipelineError(f"train: train.model.segment_frames {self.model_config.segment_frames} is longer than every "
                                f"utterance (longest: {longest} frames); lower it")  # fmt: skip

    def run(self) -> None:
        """Train to the last step, from the saved state if there is one, and write voice and report."""
        if self.params.aligner.steps:
            self.durations = learn_durations([self.train_source, self.validation_source], self.params, self.facts,
                                             self.paths.work / "durations.npz", self.device, self.rank)  # fmt: skip
        state = load_state(self.paths.work / STATE_NAME, self.rank)
        if state:
            self.trainer.load_state_dict(state["trainer"])
            self.position = Position(state["epoch"], state["batch"])
            self.log = state["log"]
            self.means = RunningMeans(**state["means"])
            logger.info("train: goes on from step %d of this very run", self.trainer.step_count)
        live = self._open_log() if self.rank == 0 else None
        self._steps(live)
        if live is not None:
            live.end()
            write_curves(self.paths.report / "curves.png", self.log)
            self._write_voice()

    def _open_log(self) -> Live:
        live = Live(str(self.paths.report), report=None, dvcyaml=None, save_dvc_exp=False, monitor_system=False)
        for row in self.log:
            self._log_row(live, row)
        return live

    @staticmethod
    def _log_row(live: Live, row: dict[str, float]) -> None:
        live.step = int(row["step"])
        for name, value in row.items():
            if name != "step":
                live.log_metric(name, value)
        live.sync()

    def _batches(self) -> Iterator[Batch]:
        """Yield batches for ever, keeping `position` at the batch after the one yielded."""
        while True:
            plan = self.sampler.epoch(self.position.epoch)
            remaining = plan[self.position.batch :]
            dataset = BatchDataset(self.train_source, remaining, self.facts.bert_channels, self.facts.spectrogram.hop_samples)
            on_gpu = self.device.type == "cuda"
            # A generator of its own: a loader draws a seed when it starts, and a resumed run starts one loader more.
            loader = DataLoader(dataset, batch_size=None, num_workers=2 if on_gpu else 0, pin_memory=on_gpu, generator=torch.Generator())
            for batch in loader:
                self.position.batch += 1
                yield batch.to(self.device)
            self.position = Position(self.position.epoch + 1, 0)

    def _steps(self, live: Live | None) -> None:
        trainer, total = self.trainer, self.params.optimisation.steps
        batches = self._batches()
        with progress_bar("train", total, "step", initial=trainer.step_count, disable=self.rank != 0) as bar:
            while trainer.step_count < total:
                batch = next(batches)
                self.means.add(trainer.step(batch, self.position.epoch, self._padded_durations(0, batch)))
                bar.update(1)
                if row := self._log_values(trainer.step_count, last=trainer.step_count == total):
                    self.log.append(row)
                    bar.set_postfix_str(f"mel {row.get('train/mel', math.nan):.3f} kl {row.get('train/kl', math.nan):.2f}", refresh=False)
                    if live is not None:
                        self._log_row(live, row)
                if trainer.step_count % self.params.checkpoint_every == 0 and trainer.step_count < total:
                    save_state(self.paths.work / STATE_NAME, trainer.state_dict(), self.position, self.log, self.means)

    def _log_values(self, step: int, *, last: bool) -> dict[str, float]:
        """Return what is logged at a step: means of the training losses, validation losses, each at its own pace."""
        values: dict[str, float] = {}
        if step % self.params.log_every == 0 or last:
            values.update({f"train/{name}": value for name, value in self.means.take().items()})
        if step % self.params.validate_every == 0 or last:
            values.update(self._validate())
        return {"step": float(step), **values} if values else {}

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Return losses of the voice's weights on the validation set, one utterance at a time, without random draws."""
        means = RunningMeans()
        for index in range(len(self.validation_source)):
            dataset = BatchDataset(self.validation_source, [[index]], self.facts.bert_channels, self.facts.spectrogram.hop_samples)
            batch = dataset[0].to(self.device)
            means.add(self.trainer.evaluate(batch, self._padded_durations(1, batch)))
        return {f"validation/{name}": value for name, value in means.take().items()}

    def _padded_durations(self, source: int, batch: Batch) -> Tensor | None:
        """Return known durations of a batch of source 0 (train) or 1 (validation), padded to (B, P)."""
        if not self.durations:
            return None
        padded = np.zeros(batch.phone_ids.shape, dtype=np.int64)
        for row, index in enumerate(batch.indices.tolist()):
            padded[row, : len(self.durations[source][index])] = self.durations[source][index]
        return torch.from_numpy(padded).to(batch.phone_ids.device)

    def _write_voice(self) -> None:
        params = self.params
        metadata = {
            "model": self.model_config.to_dict(), "spectrogram": vars(self.facts.spectrogram), "posterior_input": params.posterior_input,
            "symbols": self.symbols.to_dict(), "add_blank": params.add_blank, "speakers": list(self.facts.speakers),
            "encoders": self.facts.encoders, "lexicon": self.facts.lexicon, "step": self.trainer.step_count, "source_note": self.facts.source_note,
            "lineage": self.lineage,
        }  # fmt: skip
        save_checkpoint(self.paths.voice, tensors={"synthesizer": self.trainer.voice_state(),
                                                   "discriminator": self.trainer.discriminator.state_dict()}, metadata=metadata)  # fmt: skip
