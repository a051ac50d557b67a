"""ConvNeXt blocks at frame rate, conditioned on the speaker."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import ModelConfig

CONVNEXT_KERNEL_SIZE = 7


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution and a pointwise bottleneck, residual, (B, T, C) → (B, T, C).

    Source: ConvNeXt (Liu et al. 2022, section 2.6).
    """

    def __init__(self, channels: int, filter_channels: int, *, initial_scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, (1, CONVNEXT_KERNEL_SIZE), padding="same", groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, filter_channels)
        self.contract = nn.Linear(filter_channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), initial_scale))

    def forward(self, hidden: Tensor) -> Tensor:
        # (B, T, C) seen as (B, C, 1, T) has the channels-last layout, in which a depthwise convolution
        # and its gradients are two to six times faster on CPU than Conv1d.
        mixed = self.depthwise(hidden.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        update: Tensor = self.contract(functional.gelu(self.expand(self.norm(mixed))))
        return hidden + self.scale * update


class FrameStack(nn.Module):
    """Convolution with an added speaker vector, and ConvNeXt blocks between layer norms.

    Source: the backbone of Vocos (Siuzdak 2023, section 3).
    """

    def __init__(
        self, config: ModelConfig, in_channels: int, *, channels: int, filter_channels: int, n_layers: int
    ) -> None:
        super().__init__()
        self.embed = nn.Conv1d(in_channels, channels, CONVNEXT_KERNEL_SIZE, padding="same")
        self.cond = speaker_projection(config, channels)
        self.norm_pre = nn.LayerNorm(channels, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, filter_channels, initial_scale=1 / n_layers) for _ in range(n_layers)
        )
        self.norm_post = nn.LayerNorm(channels, eps=1e-6)

    def frames(self, inputs: Tensor, speaker_embedding: Tensor | None) -> Tensor:
        """Transform (B, C, T) with speaker embedding (B, G, 1) or None → (B, T, channels)."""
        embedded = add_speaker(self.embed(inputs), self.cond, speaker_embedding)
        hidden: Tensor = self.norm_pre(embedded.transpose(1, 2))  # (B, C, T) → (B, T, C)
        for block in self.blocks:
            hidden = block(hidden)
        normed: Tensor = self.norm_post(hidden)
        return normed

    def remove_weight_norm(self) -> None:
        """Do nothing: there is no weight norm; all decoders share this interface."""


def speaker_projection(config: ModelConfig, channels: int) -> nn.Conv1d | None:
    """Return the projection of a speaker embedding to `channels`; None for a model without speakers."""
    size = config.effective_speaker_channels
    return nn.Conv1d(size, channels, 1) if size else None


def add_speaker(hidden: Tensor, projection: nn.Conv1d | None, speaker_embedding: Tensor | None) -> Tensor:
    """Add a projected speaker embedding (B, G, 1) to (B, C, T); ValueError if it is missing."""
    if projection is None:
        return hidden
    if speaker_embedding is None:
        raise ValueError("this decoder is conditioned on a speaker, but no speaker embedding was given")
    conditioned: Tensor = hidden + projection(speaker_embedding)
    return conditioned
