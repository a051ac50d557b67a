"""Durations before the main training: a small network that aligns phones with log-mel frames.

There are two passes. The network embeds phones and frames in one space, where probability falls with distance, and
is trained on the sum over all monotonic alignments. It finds words reliably, but boundaries may be some frames off,
since convolutions blur neighbouring frames. The second pass models each symbol's frames as one Gaussian and moves
boundaries by a few frames, which makes the frames of a phone much more homogeneous.

Source: One TTS Alignment To Rule Them All (Badlani et al. 2021, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.alignment_search import search_durations
from model.networks.masks import sequence_mask

# Log-mels of speech lie around -5 ± 2.3 (the floor is -11.5): this brings them near unit variance.
MEL_CENTRE = -5.0
MEL_SPREAD = 2.5

IMPOSSIBLE = -1e4  # score of padding: its probability is 0 in float32 and its gradient defined
BLANK_SCORE = -1.0  # relative to log-probabilities; if much lower, single phones absorb whole clips

WARMUP_STEPS = 20
BAND_FRAMES = 4  # maximum shift of a boundary in the second pass
REFINEMENT_ITERATIONS = 2

DELTA_WEIGHT = 2.0  # slopes are smaller than levels but indicate boundaries
PRIOR_FRAMES = 20.0  # weight of the overall variance in that of a rare symbol

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AlignerInputs:
    """One padded batch: ids (B, P), log_mel (B, n_mels, T), lengths (B,), speaker_ids (B,) or None."""

    phone_ids: Tensor
    tone_ids: Tensor
    phone_lengths: Tensor
    log_mel: Tensor
    frame_lengths: Tensor
    speaker_ids: Tensor | None = None


class Aligner(nn.Module):
    """Phones with their neighbours as keys, frames as queries, softmax of negative squared distances."""

    def __init__(
        self, *, n_symbols: int, n_tones: int, mel_channels: int, channels: int = 80, n_speakers: int = 0
    ) -> None:
        super().__init__()
        self.symbol_embedding = nn.Embedding(n_symbols, channels)
        self.tone_embedding = nn.Embedding(n_tones, channels)
        self.speaker_embedding = nn.Embedding(n_speakers, channels) if n_speakers else None
        self.key_convs = nn.Sequential(
            nn.Conv1d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(2 * channels, channels, 1),
        )
        self.query_convs = nn.Sequential(
            nn.Conv1d(mel_channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(2 * channels, channels, 1),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, inputs: AlignerInputs) -> Tensor:
        """Return the log-probability of each phone at each frame (B, T, P), normalised over the utterance's phones.

        Raises ValueError naming the item that has fewer frames than phones: no alignment covers them.
        """
        require_enough_frames(inputs.frame_lengths, inputs.phone_lengths)
        phone_mask = sequence_mask(inputs.phone_lengths, inputs.phone_ids.shape[1])
        frame_mask = sequence_mask(inputs.frame_lengths, inputs.log_mel.shape[2]).unsqueeze(1)
        phones = self.symbol_embedding(inputs.phone_ids) + self.tone_embedding(inputs.tone_ids)
        if self.speaker_embedding is not None:
            if inputs.speaker_ids is None:
                raise ValueError("this aligner has speaker embeddings, but no speaker ids were given")
            phones = phones + self.speaker_embedding(inputs.speaker_ids).unsqueeze(1)
        keys = self.key_convs((phones * phone_mask.unsqueeze(-1)).transpose(1, 2))  # (B, P, C) → (B, C, P)
        queries = self.query_convs((inputs.log_mel - MEL_CENTRE) / MEL_SPREAD * frame_mask)
        prior = diagonal_prior(
            inputs.frame_lengths, inputs.phone_lengths, inputs.log_mel.shape[2], inputs.phone_ids.shape[1]
        )
        scores = prior - _squared_distances(queries, keys)
        scores = scores.masked_fill(phone_mask.unsqueeze(1) == 0, IMPOSSIBLE)
        return functional.log_softmax(scores, dim=-1)

    @torch.no_grad()
    def align(self, inputs: AlignerInputs) -> Tensor:
        """Return the frames per phone (B, P), int64: at least 1 each, summing to the utterance's frames."""
        return search_durations(self(inputs), inputs.frame_lengths, inputs.phone_lengths)


def require_enough_frames(frame_lengths: Tensor, phone_lengths: Tensor) -> None:
    """Raise ValueError naming the first item with fewer frames than phones, lengths (B,)."""
    too_short = torch.nonzero(frame_lengths < phone_lengths).flatten().tolist()
    if too_short:
        index = too_short[0]
        raise ValueError(
            f"item {index} has {int(frame_lengths[index])} frames for {int(phone_lengths[index])} phones "
            f"({len(too_short)} such items in the batch): drop it or shorten its text"
        )


def diagonal_prior(frame_lengths: Tensor, phone_lengths: Tensor, n_frames: int, n_phones: int) -> Tensor:
    """Return the prior log-probability (B, T, P) of each phone at each frame; lengths (B,).

    Beta-binomial: wide in the middle, narrow at the first and the last phone. Values beyond an utterance's lengths
    repeat those at its end.
    """
    n_frames_each = frame_lengths.view(-1, 1, 1).float()
    last_phone = (phone_lengths.view(-1, 1, 1) - 1).float()
    frame = torch.arange(1, n_frames + 1, device=frame_lengths.device).view(1, -1, 1).minimum(n_frames_each)
    phone = torch.arange(n_phones, device=frame_lengths.device).view(1, 1, -1).minimum(last_phone)
    rising, falling = frame, n_frames_each - frame + 1
    return (
        _log_binomial(last_phone, phone)
        + _log_beta(phone + rising, last_phone - phone + falling)
        - _log_beta(rising, falling)
    )


def forward_sum_loss(log_probabilities: Tensor, frame_lengths: Tensor, phone_lengths: Tensor) -> Tensor:
    """Return the negative log-probability of all monotonic alignments together, per frame, mean over the batch.

    log_probabilities (B, T, P) of `Aligner`, lengths (B,). The sum over paths is that of connectionist temporal
    classification with the phones as labels 1 to P; its blank takes frames that no phone explains yet.
    """
    with_blank = functional.pad(log_probabilities, (1, 0), value=BLANK_SCORE)
    n_items, _, n_classes = with_blank.shape
    labels = torch.arange(1, n_classes, device=with_blank.device).expand(n_items, -1)
    losses = functional.ctc_loss(
        functional.log_softmax(with_blank, dim=-1).transpose(0, 1),  # (B, T, P + 1) → (T, B, P + 1)
        labels,
        frame_lengths,
        phone_lengths,
        reduction="none",
    )
    return (losses / frame_lengths).mean()


def fit_aligner(
    aligner: Aligner,
    batches: Iterable[AlignerInputs],
    *,
    n_steps: int,
    learning_rate: float,
) -> list[float]:
    """Train on one batch per step with a cosine learning rate and return the loss of every step.

    Twenty epochs of half an hour of speech (450 clips, batch 16, about 600 steps) are ample.
    Raises ValueError if `batches` ends early.
    """
    optimizer = torch.optim.AdamW(aligner.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / WARMUP_STEPS) * (0.525 + 0.475 * math.cos(math.pi * step / n_steps)),
    )
    losses: list[float] = []
    aligner.train()
    for _, inputs in zip(range(n_steps), batches, strict=False):
        loss = forward_sum_loss(aligner(inputs), inputs.frame_lengths, inputs.phone_lengths)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(aligner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    if len(losses) < n_steps:
        raise ValueError(f"expected {n_steps} batches, one per step, found {len(losses)}")
    return losses


def refine_durations(
    log_mels: Sequence[FloatArray],
    phone_ids: Sequence[IntArray],
    durations: Sequence[IntArray],
) -> list[IntArray]:
    """Move the boundaries of a whole corpus by at most `BAND_FRAMES` to make each symbol's frames most alike.

    One item per utterance of one speaker: log-mel (T, n_mels), ids (P,), durations (P,), at least 1 each and summing
    to T, as do the returned ones. Every iteration fits one diagonal Gaussian per symbol over levels and slopes, then
    searches the most likely monotonic path within the band.
    """
    features = [_with_slopes(log_mel) for log_mel in log_mels]
    starting_points = list(durations)
    current = starting_points
    for _ in range(REFINEMENT_ITERATIONS):
        gaussians = _fit_gaussians(features, phone_ids, current)
        current = [
            _search_band(gaussians.log_likelihood(frames, ids), start, BAND_FRAMES)
            for frames, ids, start in zip(features, phone_ids, starting_points, strict=True)
        ]
    return current


@dataclass(frozen=True)
class _Gaussians:
    """One diagonal Gaussian per symbol, all (n_symbols, D)."""

    mean: FloatArray
    precision: FloatArray

    def log_likelihood(self, frames: FloatArray, ids: IntArray) -> FloatArray:
        """Return the log-likelihood of frames (T, D) under each phone of ids (P,) → (T, P), up to a constant."""
        mean, precision = self.mean[ids], self.precision[ids]
        constant = (mean**2 * precision - np.log(precision)).sum(axis=1)
        likelihood: FloatArray = -0.5 * ((frames**2) @ precision.T - 2.0 * frames @ (mean * precision).T + constant)
        return likelihood


def _fit_gaussians(
    features: Sequence[FloatArray], phone_ids: Sequence[IntArray], durations: Sequence[IntArray]
) -> _Gaussians:
    frames = np.concatenate(features)
    labels = np.concatenate([np.repeat(ids, each) for ids, each in zip(phone_ids, durations, strict=True)])
    shape = (int(labels.max()) + 1, frames.shape[1])
    mean, precision = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    overall = frames.var(axis=0)
    for symbol in np.unique(labels):
        own = frames[labels == symbol]
        variance = (own.var(axis=0) * len(own) + overall * PRIOR_FRAMES) / (len(own) + PRIOR_FRAMES)
        mean[symbol], precision[symbol] = own.mean(axis=0), 1.0 / np.maximum(variance, 1e-6)
    return _Gaussians(mean, precision)


def _search_band(scores: FloatArray, durations: IntArray, band_frames: int) -> IntArray:
    """Return durations (P,) of the best path through scores (T, P) within `band_frames` of the given ones."""
    ends = np.cumsum(durations)
    frame = np.arange(len(scores))[:, None]
    inside = (frame >= ends - durations - band_frames) & (frame < ends + band_frames)
    allowed = np.where(inside, scores, scores.min() - 1e6).astype(np.float32)
    lengths = torch.tensor([allowed.shape[0]]), torch.tensor([allowed.shape[1]])
    return search_durations(torch.from_numpy(allowed).unsqueeze(0), *lengths)[0].numpy()


def _with_slopes(log_mel: FloatArray) -> FloatArray:
    padded = np.pad(log_mel, ((1, 1), (0, 0)), mode="edge")
    return np.concatenate((log_mel, DELTA_WEIGHT * (padded[2:] - padded[:-2])), axis=1)


def _squared_distances(queries: Tensor, keys: Tensor) -> Tensor:
    """Return squared distances of every frame (B, C, T) from every phone (B, C, P) → (B, T, P)."""
    products = torch.bmm(queries.transpose(1, 2), keys)
    query_norms = queries.square().sum(1).unsqueeze(2)
    return query_norms - 2.0 * products + keys.square().sum(1).unsqueeze(1)


def _log_beta(first: Tensor, second: Tensor) -> Tensor:
    return torch.lgamma(first) + torch.lgamma(second) - torch.lgamma(first + second)


def _log_binomial(total: Tensor, chosen: Tensor) -> Tensor:
    return torch.lgamma(total + 1) - torch.lgamma(chosen + 1) - torch.lgamma(total - chosen + 1)
