"""One rank's training run: durations, steps, validation, samples, checkpoints and the resumable state."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from model.settings import ConfigError
from model.text.symbols import SymbolTable
from model.training.dataset import Batch, BatchDataset
from model.training.sampler import BatchSampler
from model.training.trainer import Trainer
from stages.common.errors import ParamsError, PipelineError
from stages.common.progress import progress_bar
from stages.train.base_voice import warm_start
from stages.train.checkpoints import (
    Average,
    average_of_steps,
    averaged_steps,
    voice_tensors,
    worth_storing,
    write_checkpoint,
)
from stages.train.durations import Durations, learn_durations, padded_durations
from stages.train.manifest_source import ManifestSource, read_split
from stages.train.outputs import RunFacts, write_outputs
from stages.train.pitch_tracks import attach_pitch
from stages.train.preflight import check_data, describe_batches
from stages.train.samples import write_samples
from stages.train.settings import TrainParams, TrainPaths, own_style
from stages.train.spoken_metrics import SpokenMetrics
from stages.train.state import (
    DamagedStateError,
    Position,
    RunState,
    from_first_rank,
    read_state,
    restore_random_state,
    save_state,
    state_files,
)
from stages.train.validation import Validator
from stages.train.work_folder import CHECKPOINTS, SAMPLES, Artefacts, exclusive_lock

logger = logging.getLogger(__name__)


class TrainingRun:
    """Training run of one rank. Rank 0 also logs, saves and writes the outputs."""

    def __init__(
        self,
        params: TrainParams,
        paths: TrainPaths,
        lineage: dict[str, Any],
        *,
        rank: int,
        n_ranks: int,
        device: torch.device,
    ) -> None:
        self.params = params
        self.paths = paths
        self.lineage = lineage
        self.rank = rank
        self.n_ranks = n_ranks
        self.device = device
        self.symbols = SymbolTable()
        table, self.facts = read_split(paths.data.split)
        self.train_source, self.validation_source = (
            ManifestSource(paths.data, table, self.facts, subset, self.symbols, params.add_blank)
            for subset in ("train", "validation")
        )
        self.model_config, discriminator_config = params.networks(self.facts, self.symbols)
        check_data(params, self.model_config, self.train_source, self.validation_source, n_ranks)
        try:
            self.trainer = Trainer(
                self.model_config,
                discriminator_config,
                params.optimisation,
                self.facts.spectrogram,
                device,
                reference_quirks=params.reference_quirks,
                freeze=params.freeze,
            )
        except ConfigError as error:
            raise ParamsError(f"params.yaml: train: {error}") from None
        self.sampler = BatchSampler(
            self.train_source.n_frames,
            params.optimisation.batch_size,
            params.optimisation.max_batch_frames,
            params.optimisation.seed,
            rank,
            n_ranks,
        )
        self.run_state = RunState()
        self.artefacts = Artefacts(paths.work)
        self.previous_artefacts: dict[str, str] = {}  # of the state before the newest one
        self.steps_in_epoch = 0
        self.durations: Durations | None = None

    def run(self) -> None:
        """Train to the end, from the newest intact state if there is one, and write voice and report."""
        with ExitStack() as stack:
            if self.rank == 0:
                stack.enter_context(exclusive_lock(self.paths.work))
            batches = describe_batches(self.sampler, self.train_source) if self.rank == 0 else {}
            self._restore()
            if self.model_config.latent_follows_mels:
                attach_pitch([self.train_source, self.validation_source], self.paths.work / "pitch.npz", self.rank)
            validation_durations = None
            if self.params.aligner.steps:
                self.durations, validation_durations = learn_durations(
                    [self.train_source, self.validation_source],
                    self.params,
                    self.facts,
                    self.paths.work / "durations.npz",
                    self.device,
                    self.rank,
                )
            self.validator = Validator(self.trainer, self.validation_source, self.facts, validation_durations)
            style = own_style(self.params, self.model_config)
            self.spoken_metrics = SpokenMetrics(self.validator, self.params.metrics.utterances, style)
            if not self.run_state.ended:
                self._steps()
            average = self._average()
            if self.rank == 0:
                facts = RunFacts(self.params, self.facts, self.model_config, self.symbols, self.lineage, batches)
                write_outputs(self.paths, facts, self.run_state, self.trainer, self.artefacts, average)

    def _restore(self) -> None:
        """Restore the newest intact state, which rank 0 chooses; without one, start from the base voice if given."""
        step, state = self._newest_intact_state() if self.rank == 0 else (None, None)
        step = from_first_rank(step)
        if step is None:
            self.run_state.transfer = warm_start(
                self.params.base_voice, self.trainer, self.symbols, self.facts.speakers
            )
            return
        path = self.paths.work / f"state-{step:08d}.pt"
        try:
            state = state or read_state(path)
        except DamagedStateError as error:
            raise PipelineError(
                f"{path}: {error}; every rank must see the same folder: set VOICE_WORK_DIR to a shared one"
            ) from None
        self.trainer.load_state_dict(state["trainer"])
        self.run_state = RunState.from_dict(state["run"])
        self.previous_artefacts = dict(self.run_state.artefacts)
        restore_random_state(state, self.rank)
        if self.rank == 0:
            logger.info("train: resuming from step %d", step)

    def _newest_intact_state(self) -> tuple[int | None, dict[str, Any] | None]:
        for step, path in state_files(self.paths.work).items():
            try:
                state = read_state(path)
            except DamagedStateError as error:
                logger.warning("%s: %s; trying the previous state", path, error)
                continue
            damaged = self.artefacts.damaged(state["run"]["artefacts"])
            if not damaged:
                return step, state
            logger.warning(
                "%s: unusable because %s is missing or altered; trying the previous state",
                path,
                ", ".join(damaged),
            )
        return None, None

    def _batches(self) -> Iterator[Batch]:
        """Yield batches endlessly, with `position` at the batch after the yielded one."""
        state = self.run_state
        while True:
            plan = self.sampler.epoch(state.position.epoch)
            self.steps_in_epoch = len(plan)
            dataset = BatchDataset(
                self.train_source,
                plan[state.position.batch :],
                self.facts.bert_channels,
                self.facts.spectrogram.hop_samples,
            )
            on_gpu = self.device.type == "cuda"
            # A separate generator: a starting loader draws a seed, and a resumed run starts one more loader.
            loader = DataLoader(
                dataset, batch_size=None, num_workers=2 if on_gpu else 0, pin_memory=on_gpu, generator=torch.Generator()
            )
            for batch in loader:
                state.position.batch += 1
                yield batch.to(self.device)
            state.position = Position(state.position.epoch + 1, 0)

    def _steps(self) -> None:
        trainer, state, total = self.trainer, self.run_state, self.params.optimisation.steps
        batches = self._batches()
        logger.debug("step %d: loop starts", trainer.step_count)
        clock = time.monotonic()
        with progress_bar("train", total, "step", initial=trainer.step_count, disable=self.rank != 0) as bar:
            while not state.ended:
                batch = next(batches)
                state.means.add(trainer.step(batch, state.position.epoch, padded_durations(self.durations, batch)))
                now = time.monotonic()
                state.seconds += now - clock
                clock = now
                if trainer.between_updates:
                    continue
                bar.update(1)
                state.ended = self._end()
                self._after_update(trainer.step_count, bar)
        if self.rank == 0:
            logger.info("train: ended at step %d: %s", trainer.step_count, state.ended)

    def _end(self) -> str:
        """Return why the run ends at this step, empty if it continues; the same on all ranks."""
        budget, state = self.params.budget, self.run_state
        epochs_done = state.position.epoch + (state.position.batch >= self.steps_in_epoch)
        if self.trainer.step_count >= self.params.optimisation.steps:
            return "optimisation.steps"
        if budget.epochs is not None and epochs_done >= budget.epochs:
            return "budget.epochs"
        if budget.minutes is not None and from_first_rank(state.seconds >= 60 * budget.minutes):  # clocks differ
            return "budget.minutes"
        return ""

    def _after_update(self, step: int, bar: tqdm[Any]) -> None:
        """Log, validate, write samples, keep weights and save the state as due after an update."""
        params, state = self.params, self.run_state
        last = bool(state.ended)
        row = self._log_values(step, last=last)
        if row:
            state.log.append(row)
            shown = (f"{name} {row[f'train/{name}']:.3g}" for name in ("mel", "kl") if f"train/{name}" in row)
            bar.set_postfix_str(" ".join(shown), refresh=False)
        if params.samples.every and self.rank == 0 and (step % params.samples.every == 0 or last):
            with self._stored(SAMPLES, step) as folder:
                write_samples(folder, self.validator, params.samples.utterances)
        if row and self.rank == 0 and step in worth_storing(state.log, params.keep):
            with self._stored(CHECKPOINTS, step) as folder:
                write_checkpoint(folder, voice_tensors(self.trainer), {"step": step})
        if step % params.checkpoint_every == 0 or last:
            self._save(step)

    def _log_values(self, step: int, *, last: bool) -> dict[str, float]:
        """Return the values to log at a step: mean training losses and validation values, each if due."""
        values: dict[str, float] = {}
        if step % self.params.log_every == 0 or last:
            values.update({f"train/{name}": value for name, value in self.run_state.means.take().items()})
        if step % self.params.validate_every == 0 or last:
            logger.debug("step %d: validation starts", step)
            values.update(
                {f"validation/{name}": value for name, value in self._validation_values(step, last=last).items()}
            )
            logger.debug("step %d: validation done", step)
            if self.rank == 0:
                shown = ", ".join(
                    f"{name.partition('/')[2]} {value:.4g}"
                    for name, value in values.items()
                    if name.startswith("validation/")
                )
                logger.info("train: step %d: validation %s", step, shown)
        return {"step": float(step), **values} if values else {}

    def _validation_values(self, step: int, *, last: bool) -> dict[str, float]:
        values = self.validator.values(self.rank, self.n_ranks)
        if self.params.metrics.due(step // self.params.validate_every, last=last):
            values |= self.spoken_metrics.figures(self.rank, self.n_ranks)
        return values

    def _average(self) -> Average | None:
        """Return the mean of the last validated weights with its validation values; None without `keep.average`.

        It is not part of the state: a resumed run computes it again.
        """
        steps = averaged_steps(self.run_state.log, self.params.keep)
        if not steps:
            return None
        weights = average_of_steps(steps, self.trainer, self.artefacts)
        with self.trainer.evaluating(weights):
            return Average(tuple(steps), weights, self._validation_values(self.trainer.step_count, last=True))

    @contextmanager
    def _stored(self, kind: str, step: int) -> Iterator[Path]:
        """Yield a folder for an artefact, whose digest becomes part of the next state."""
        name = self.artefacts.name(kind, step)
        logger.debug("%s: writing", name)
        with self.artefacts.writing(name) as folder:
            yield folder
        self.run_state.artefacts[name] = self.artefacts.digest(name)
        logger.debug("%s: written", name)

    def _save(self, step: int) -> None:
        state = self.run_state
        needed = {self.artefacts.name(CHECKPOINTS, each) for each in worth_storing(state.log, self.params.keep)}
        state.artefacts = {
            name: digest
            for name, digest in state.artefacts.items()
            if name in needed or not name.startswith(CHECKPOINTS)
        }
        logger.debug("step %d: saving", step)
        save_state(self.paths.work, step, self.trainer.state_dict(), state)
        logger.debug("step %d: saved", step)
        if self.rank == 0:
            self.artefacts.remove_checkpoints({*state.artefacts, *self.previous_artefacts})
            self.previous_artefacts = dict(state.artefacts)
