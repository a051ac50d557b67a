"""Sources of the synthesizer's noise: torch's global generator, or one generator per utterance.

Legend: B batch, P phones, T frames, C channels, L any length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


@contextmanager
def isolated_random_state(device: torch.device, seed: int = 0) -> Iterator[None]:
    """Seed torch inside the block and restore its random state afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class RandomDraws:
    """Draws for a whole batch, padding included, from torch's global generator."""

    def normal(self, like: Tensor, lengths: Tensor) -> Tensor:
        """Return standard normal noise (B, C, L) in the shape, type and device of `like`; item lengths are (B,)."""
        return torch.randn_like(like)

    def uniform(self, like: Tensor) -> Tensor:
        """Return one number of [0, 1) per item, (B,), on the device of `like`."""
        return torch.rand(len(like), device=like.device)

    def alignment_noise(self, scores: Tensor, frame_lengths: Tensor, phone_lengths: Tensor, scale: float) -> Tensor:
        """Return noise (B, T, P) of `scale` standard deviations of the alignment scores (B, T, P)."""
        return torch.randn_like(scores) * (scores.std() * scale)


class UtteranceDraws(RandomDraws):
    """Draws per utterance and epoch, independent of the batch, the position in it, its padding and the process.

    A row's noise is drawn at the utterance's length from a generator seeded by (seed, epoch, utterance index) and is
    zero on padding. The standard deviation of alignment scores is computed per utterance.
    """

    def __init__(self, seed: int, epoch: int, indices: Sequence[int], device: torch.device) -> None:
        # Two numbers each: one seeds the noise; the other orders utterances alike on every device.
        numbers = [np.random.SeedSequence([seed, epoch, index]).generate_state(2, np.uint64) for index in indices]
        self.generators = [torch.Generator(device).manual_seed(int(first)) for first, _ in numbers]
        self.order = [int(second) / 2.0**64 for _, second in numbers]

    def normal(self, like: Tensor, lengths: Tensor) -> Tensor:
        noise = torch.zeros(like.shape, device=like.device, dtype=like.dtype)
        for row, (length, generator) in enumerate(zip(lengths.tolist(), self.generators, strict=True)):
            noise[row, :, :length] = self._randn(generator, (like.shape[1], length), like)
        return noise

    def uniform(self, like: Tensor) -> Tensor:
        return torch.cat([torch.rand(1, generator=generator, device=like.device) for generator in self.generators])

    def alignment_noise(self, scores: Tensor, frame_lengths: Tensor, phone_lengths: Tensor, scale: float) -> Tensor:
        noise = torch.zeros_like(scores)
        sizes = zip(frame_lengths.tolist(), phone_lengths.tolist(), strict=True)
        for row, ((n_frames, n_phones), generator) in enumerate(zip(sizes, self.generators, strict=True)):
            own = scores[row, :n_frames, :n_phones]
            noise[row, :n_frames, :n_phones] = self._randn(generator, (n_frames, n_phones), scores) * (
                own.std(correction=0) * scale
            )
        return noise

    @staticmethod
    def _randn(generator: torch.Generator, shape: tuple[int, int], like: Tensor) -> Tensor:
        return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
