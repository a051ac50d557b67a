"""What the adversarial part of a step needs beside the networks: who is judged, how much of a loss is this rank's.

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

COUNTED_BY = {
    "mel": "items",
    "kl": "frames",
    "pitch": "frames",
    "duration": "phones",
    "duration_discriminator": "phones",
    "duration_adversarial": "phones",
    "discriminator": "judged",
    "adversarial": "judged",
    "feature": "judged",
}


@dataclass(frozen=True)
class AdversarialSubset:
    """rows (N,) of this rank's batch that the waveform discriminators see, and how many of them count: all or none."""

    rows: Tensor
    count: int


def select_subset(order: Sequence[float], share: float, device: torch.device) -> AdversarialSubset:
    """Choose a share of all ranks' utterances, at least one: those that come first in `order`, a number per utterance.

    So the choice does not depend on how utterances lie on ranks. A rank without any judges its first, which does not
    count: ranks must take the same steps.
    """
    if share == 1.0:
        return AdversarialSubset(torch.arange(len(order), device=device), len(order))
    every = sorted(gather(order, device))
    last = every[max(1, round(len(every) * share)) - 1]
    rows = [row for row, number in enumerate(order) if number <= last]
    return AdversarialSubset(torch.tensor(rows or [0], device=device), len(rows))


@dataclass(frozen=True)
class GlobalShares:
    """This rank's share of all ranks' utterances, frames, phones and judged clips: with it, means over the rank's own
    batch sum up to means over all batches."""

    items: float
    frames: float
    phones: float
    judged: float

    @classmethod
    def of(cls, batch: Batch, n_judged: int, device: torch.device) -> GlobalShares:
        """Return the shares of a batch; one small message."""
        if is_single_process():
            return cls(1.0, 1.0, 1.0, 1.0)
        counts = (len(batch.indices), int(batch.frame_lengths.sum()), int(batch.phone_lengths.sum()), n_judged)
        items, frames, phones, judged = shares(counts, device)
        return cls(items, frames, phones, judged)

    def of_loss(self, name: str) -> float:
        """Return the share in a loss by its name; 1 for what is a sum of parts already."""
        return getattr(self, COUNTED_BY[name]) if name in COUNTED_BY else 1.0


def discriminate_durations(
    network: DurationDiscriminator | None, output: SynthesizerOutput | None, reference_quirks: bool, *, learn: bool
) -> tuple[Tensor, Tensor] | None:
    """Return the verdicts on true and on predicted durations, (N,) each over all phones; None without a network or an
    output.

    With `learn` gradients reach the network alone, otherwise the generator alone. With the reference's quirks the two
    change places, so that no gradient reaches the generator, and padding is judged as well: verdicts (B, P, 1).
    """
    if network is None or output is None:
        return None
    true, predicted = output.log_durations_target.detach(), output.log_durations
    first, second = (predicted, true) if reference_quirks else (true, predicted)
    if learn:
        verdicts = network(
            output.text_hidden, output.phone_mask, first.detach(), second.detach(), output.speaker_embedding
        )
    else:
        with frozen(network):
            verdicts = network(output.text_hidden, output.phone_mask, first, second, output.speaker_embedding)
    if reference_quirks:
        return verdicts
    is_phone = output.phone_mask.transpose(1, 2) > 0  # (B, 1, P) → (B, P, 1)
    return verdicts[0][is_phone], verdicts[1][is_phone]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through a network without computing those of its own weights."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    for each in parameters:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in parameters:
            each.requires_grad_(True)
