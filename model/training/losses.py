"""Training losses, each a mean over its inputs, so that its scale depends on neither batch size nor length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

FEATURE_MATCHING_WEIGHT = 2.0
CEPSTRUM_ORDER = 24


@dataclass(frozen=True)
class DiscriminatorLoss:
    """Sum over all networks, and each network's loss on the real and on the generated clips."""

    total: Tensor
    real_parts: list[Tensor]
    generated_parts: list[Tensor]


def discriminator_loss(real_logits: Sequence[Tensor], generated_logits: Sequence[Tensor]) -> DiscriminatorLoss:
    """Return the least-squares loss with target 1 for real and 0 for generated logits; one tensor per network.

    Source: LSGAN (Mao et al. 2017, section 3.2).
    """
    real_parts = [(1.0 - logits.float()).square().mean() for logits in real_logits]
    generated_parts = [logits.float().square().mean() for logits in generated_logits]
    total = torch.stack([*real_parts, *generated_parts]).sum()
    return DiscriminatorLoss(total, real_parts, generated_parts)


def generator_loss(generated_logits: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the least-squares loss with target 1 for generated logits: the sum over networks, and its parts."""
    parts = [(1.0 - logits.float()).square().mean() for logits in generated_logits]
    return torch.stack(parts).sum(), parts


def feature_matching_loss(real_maps: Sequence[Sequence[Tensor]], generated_maps: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return twice the summed mean absolute difference of activations, maps[network][layer], with real targets.

    Source: HiFi-GAN (Kong et al. 2020, section 2.4).
    """
    differences = [
        (real.detach().float() - generated.float()).abs().mean()
        for real_layers, generated_layers in zip(real_maps, generated_maps, strict=True)
        for real, generated in zip(real_layers, generated_layers, strict=True)
    ]
    return FEATURE_MATCHING_WEIGHT * torch.stack(differences).sum()


def kl_loss(
    flowed_latent: Tensor,
    posterior_log_std: Tensor,
    prior_mean: Tensor,
    prior_log_std: Tensor,
    frame_mask: Tensor,
) -> Tensor:
    """Return the KL divergence of posterior from prior, by one sample, summed over channels, mean over frames.

    All are (B, C, T), the mask (B, 1, T); `flowed_latent` is the posterior sample after the flow.
    Source: VITS (Kim et al. 2021, section 2.1.2).
    """
    squared_error = (flowed_latent.float() - prior_mean.float()).square()
    deviation = squared_error * torch.exp(-2.0 * prior_log_std.float())
    divergence = prior_log_std.float() - posterior_log_std.float() - 0.5 + 0.5 * deviation
    return (divergence * frame_mask).sum() / frame_mask.sum()


def mel_loss(real_log_mel: Tensor, generated_log_mel: Tensor) -> Tensor:
    """Return the mean absolute difference of log-mel spectrograms of one shape, (B, n_mels, T)."""
    return functional.l1_loss(generated_log_mel.float(), real_log_mel.float())


def mel_cepstral_distortion(reference: Tensor, other: Tensor) -> Tensor:
    """Return the mean distance in dB of two log-mel spectrograms (B, C, T) that are aligned frame by frame.

    (10 / ln 10) · sqrt(2 Σ_{m=1..24} (c_m − c'_m)²), without the level c_0; c_m is the cosine series of the natural log
    amplitude over the bands. Source: Kubichek 1993, Mel-cepstral distance measure for objective speech quality
    assessment.
    """
    n_bands = reference.shape[1]
    orders = torch.arange(1, min(CEPSTRUM_ORDER, n_bands - 1) + 1, dtype=torch.float64).unsqueeze(1)
    middles = (torch.arange(n_bands, dtype=torch.float64) + 0.5) / n_bands
    basis = (2 / n_bands * torch.cos(math.pi * orders * middles)).to(reference)
    difference = basis @ (reference - other)  # (M, C) @ (B, C, T) → (B, M, T)
    return 10 / math.log(10) * (2 * difference.square().sum(1)).sqrt().mean()
