"""Phone durations from a small aligner, which is trained once per run before the main training."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from model.audio.spectrogram import mel_filterbank
from model.audio.spectrogram_torch import log_mel
from model.networks.random_draws import isolated_random_state
from model.training.aligner import Aligner, AlignerInputs, fit_aligner, refine_durations
from model.training.dataset import Batch, BatchDataset, StoredBatch
from model.training.sampler import BatchSampler
from stages.common.progress import progress_bar
from stages.train.manifest_source import CorpusFacts, ManifestSource
from stages.train.per_utterance import once_per_run
from stages.train.settings import TrainParams

logger = logging.getLogger(__name__)

Durations = list[npt.NDArray[np.int64]]


def learn_durations(
    sources: Sequence[ManifestSource],
    params: TrainParams,
    facts: CorpusFacts,
    path: Path,
    device: torch.device,
    rank: int,
) -> list[Durations]:
    """Return, for each source and utterance, the frames of every phone, pads and blanks included.

    The aligner is trained on the first source only.
    """

    def compute() -> list[Durations]:
        with isolated_random_state(device):  # or a resumed run, which skips this, would draw other numbers
            return _compute(sources, params, facts, device)

    return once_per_run(path, sources, rank, compute, "training the aligner again")


def padded_durations(durations: Durations | None, batch: Batch) -> Tensor | None:
    """Return the durations of a batch's utterances, padded to (B, P); None if the aligner is off."""
    if durations is None:
        return None
    padded = np.zeros(batch.phone_ids.shape, dtype=np.int64)
    for row, index in enumerate(batch.indices.tolist()):
        padded[row, : len(durations[index])] = durations[index]
    return torch.from_numpy(padded).to(batch.phone_ids.device)


def _compute(
    sources: Sequence[ManifestSource], params: TrainParams, facts: CorpusFacts, device: torch.device
) -> list[Durations]:
    settings, source = params.aligner, sources[0]
    torch.manual_seed(params.optimisation.seed)
    symbols = source.symbols
    n_speakers = len(facts.speakers) if len(facts.speakers) > 1 else 0
    aligner = Aligner(
        n_symbols=len(symbols.symbols),
        n_tones=symbols.tone_count,
        mel_channels=facts.spectrogram.n_mels,
        channels=settings.channels,
        n_speakers=n_speakers,
    ).to(device)
    filterbank = torch.from_numpy(mel_filterbank(facts.spectrogram)).to(device)

    def inputs(stored: StoredBatch) -> AlignerInputs:
        batch = stored.to(device)
        return AlignerInputs(
            batch.phone_ids,
            batch.tone_ids,
            batch.phone_lengths,
            log_mel(batch.linear, filterbank),
            batch.frame_lengths,
            batch.speaker_ids if n_speakers else None,
        )

    sampler = BatchSampler(source.n_frames, settings.batch_size, settings.max_batch_frames, params.optimisation.seed)
    with progress_bar("aligner", settings.steps, "step") as bar:
        batches = (inputs(batch) for batch in _batches(source, sampler, facts, bar))
        losses = fit_aligner(aligner, batches, n_steps=settings.steps, learning_rate=settings.learning_rate)
    logger.info("train: aligner loss %.3f at the first step, %.3f at the last", losses[0], losses[-1])
    aligner.eval()
    return [_align_all(each, aligner, inputs, facts) for each in sources]


def _batches(
    source: ManifestSource, sampler: BatchSampler, facts: CorpusFacts, bar: tqdm[Any]
) -> Iterator[StoredBatch]:
    for epoch in itertools.count():
        dataset = BatchDataset(source, sampler.epoch(epoch), {}, facts.spectrogram.hop_samples)
        for position in range(len(dataset)):
            yield dataset[position]
            bar.update(1)


def _align_all(
    source: ManifestSource, aligner: Aligner, inputs: Callable[[StoredBatch], AlignerInputs], facts: CorpusFacts
) -> Durations:
    """Return the durations of every utterance, aligned one by one, then refined over each speaker's utterances."""
    durations: Durations = []
    log_mels, phone_ids = [], []
    by_speaker: dict[int, list[int]] = {}
    with progress_bar("aligning", len(source), "utterance") as bar:
        for index in range(len(source)):
            batch = BatchDataset(source, [[index]], {}, facts.spectrogram.hop_samples)[0]
            item = inputs(batch)
            durations.append(aligner.align(item)[0].cpu().numpy().astype(np.int64))
            log_mels.append(item.log_mel[0].T.cpu().numpy())  # (n_mels, T) → (T, n_mels)
            phone_ids.append(item.phone_ids[0].cpu().numpy())
            by_speaker.setdefault(int(batch.speaker_ids[0]), []).append(index)
            bar.update(1)
    for members in by_speaker.values():
        refined = refine_durations(
            [log_mels[i] for i in members], [phone_ids[i] for i in members], [durations[i] for i in members]
        )
        for index, each in zip(members, refined, strict=True):
            durations[index] = each.astype(np.int64)
    return durations
