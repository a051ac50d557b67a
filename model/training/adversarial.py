"""Helpers of the adversarial step: which clips the discriminators see, and this rank's share in each loss.

Legend: B batch, P phones, S samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.synthesizer import SynthesizerOutput
from model.training.dataset import Batch
from model.training.discriminators import DurationDiscriminator
from model.training.distributed import gather, is_single_process, shares

NORMALISED_BY = {
    "mel": "items",
    "kl": "frames",
    "pitch": "frames",
    "duration": "phones",
    "duration_discriminator": "phones",
    "duration_adversarial": "phones",
    "discriminator": "clips",
    "adversarial": "clips",
    "feature": "clips",
}


@dataclass(frozen=True)
class AdversarialSubset:
    """rows (N,) of this rank's batch for the waveform discriminators; `count` is N, or 0 if they have no weight."""

    rows: Tensor
    count: int


def select_subset(order: Sequence[float], share: float, device: torch.device) -> AdversarialSubset:
    """Select a share of all ranks' utterances, at least one: those lowest in `order`, a number per utterance.

    The selection does not depend on how utterances are distributed across ranks. A rank with none selected returns its
    first utterance with count 0, because all ranks must run the same collectives.
    """
    if share == 1.0:
        return AdversarialSubset(torch.arange(len(order), device=device), len(order))
    numbers = sorted(gather(order, device))
    threshold = numbers[max(1, round(len(numbers) * share)) - 1]
    rows = [row for row, number in enumerate(order) if number <= threshold]
    return AdversarialSubset(torch.tensor(rows or [0], device=device), len(rows))


@dataclass(frozen=True)
class GlobalShares:
    """This rank's share of all ranks' utterances, frames, phones and discriminated clips.

    Means over a rank's batch, weighted by its share, sum to the mean over all ranks' batches.
    """

    items: float
    frames: float
    phones: float
    clips: float

    @classmethod
    def of(cls, batch: Batch, n_clips: int, device: torch.device) -> GlobalShares:
        """Return the shares of a batch; costs one small collective."""
        if is_single_process():
            return cls(1.0, 1.0, 1.0, 1.0)
        counts = (len(batch.indices), int(batch.frame_lengths.sum()), int(batch.phone_lengths.sum()), n_clips)
        items, frames, phones, clips = shares(counts, device)
        return cls(items, frames, phones, clips)

    def of_loss(self, name: str) -> float:
        """Return the share in the loss `name`; 1 for a loss that is a sum of others."""
        return getattr(self, NORMALISED_BY[name]) if name in NORMALISED_BY else 1.0


def discriminate_durations(
    network: DurationDiscriminator | None,
    output: SynthesizerOutput | None,
    reference_quirks: bool,
    *,
    train_network: bool,
) -> tuple[Tensor, Tensor] | None:
    """Return the discriminator's probabilities of true and of predicted durations, (N,) each over all phones.

    None without a network or an output. With `train_network` gradients reach the network only, otherwise the generator
    only. The reference's quirks swap the two, so that no gradient reaches the generator, and include padding:
    probabilities (B, P, 1).
    """
    if network is None or output is None:
        return None
    true, predicted = output.log_durations_target.detach(), output.log_durations
    first, second = (predicted, true) if reference_quirks else (true, predicted)
    if train_network:
        probabilities: tuple[Tensor, Tensor] = network(
            output.text_hidden, output.phone_mask, first.detach(), second.detach(), output.speaker_embedding
        )
    else:
        with frozen(network):
            probabilities = network(output.text_hidden, output.phone_mask, first, second, output.speaker_embedding)
    if reference_quirks:
        return probabilities
    is_phone = output.phone_mask.transpose(1, 2) > 0  # (B, 1, P) → (B, P, 1)
    return probabilities[0][is_phone], probabilities[1][is_phone]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Pass gradients through a network without computing those of its weights."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    for each in parameters:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in parameters:
            each.requires_grad_(True)
