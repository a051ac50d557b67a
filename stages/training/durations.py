"""Durations before the main training: a small aligner learns where each phone lies, once per run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from model.aligner import Aligner, AlignerInputs, align, forward_sum_loss
from model.dataset import Batch, BatchDataset
from model.sampler import BatchSampler
from model.spectrogram import mel_filterbank
from model.spectrogram_torch import log_mel
from stages.common.files import atomic_path
from stages.common.progress import progress_bar
from stages.common.training_data import CorpusFacts, ManifestSource
from stages.training.settings import AlignerParams, TrainParams

logger = logging.getLogger(__name__)

Durations = list[npt.NDArray[np.int64]]


def learn_durations(
    source: ManifestSource, params: TrainParams, facts: CorpusFacts, path: Path, device: torch.device, rank: int
) -> Durations:
    """Return the frames of every phone (pads and blanks included) of every utterance of `source`.

    Rank 0 trains the aligner and keeps the result in `path`, whose folder belongs to this very run; the other ranks
    read it there.
    """
    if rank == 0 and not path.is_file():
        _save(path, _compute(source, params, facts, device))
    if dist.is_initialized():
        dist.barrier()
    with np.load(path) as stored:
        return np.split(stored["frames"], stored["ends"][:-1])


def _save(path: Path, durations: Durations) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, frames=np.concatenate(durations), ends=np.cumsum([len(each) for each in durations]))


def _compute(source: ManifestSource, params: TrainParams, facts: CorpusFacts, device: torch.device) -> Durations:
    settings = params.aligner
    torch.manual_seed(params.optimisation.seed)
    with_speakers = len(facts.speakers) > 1
    symbols = source.symbols
    aligner = Aligner(n_symbols=len(symbols.symbols), n_tones=symbols.tone_count, mel_channels=facts.spectrogram.n_mels,
                      channels=settings.channels, n_speakers=len(facts.speakers) if with_speakers else 0).to(device)  # fmt: skip
    filterbank = torch.from_numpy(mel_filterbank(facts.spectrogram)).to(device)

    def inputs(batch: Batch) -> AlignerInputs:
        batch = batch.to(device)
        return AlignerInputs(batch.phone_ids, batch.tone_ids, batch.phone_lengths, log_mel(batch.linear, filterbank),
                             batch.frame_lengths, batch.speaker_ids if with_speakers else None)  # fmt: skip

    sampler = BatchSampler(source.n_frames, settings.batch_size, settings.max_batch_frames, params.optimisation.seed)
    optimizer = torch.optim.AdamW(aligner.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
    with progress_bar("aligner", settings.steps, "step") as bar:
        for batch in _batches(source, sampler, facts, settings):
            loss = forward_sum_loss(aligner, inputs(batch))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(aligner.parameters(), 5.0)
            optimizer.step()
            bar.update(1)
            bar.set_postfix_str(f"loss {float(loss.detach()):.3f}", refresh=False)
    return _align_all(source, aligner, inputs, facts)


def _batches(source: ManifestSource, sampler: BatchSampler, facts: CorpusFacts, settings: AlignerParams) -> Iterator[Batch]:
    n_given, epoch = 0, 0
    while True:
        dataset = BatchDataset(source, sampler.epoch(epoch), {}, facts.spectrogram.hop_samples)
        for position in range(len(dataset)):
            if n_given == settings.steps:
                return
            yield dataset[position]
            n_given += 1
        epoch += 1
