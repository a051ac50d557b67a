"""HiFi-GAN decoder: latent frames upsampled step by step to a waveform.

Legend: B batch, T frames, S samples, C channels, G speaker channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from model.config import ModelConfig
from model.networks.decoders.convnext import add_speaker, speaker_projection

LEAKY_SLOPE = 0.1


def remove_weight_norms(module: nn.Module) -> None:
    """Fold every weight normalisation below `module` into plain weights; outputs are unchanged."""
    for child in module.modules():
        if parametrize.is_parametrized(child, "weight"):
            parametrize.remove_parametrizations(child, "weight", leave_parametrized=True)


class HifiGanDecoder(nn.Module):
    """Transposed convolutions, each followed by residual blocks of several kernel sizes, averaged.

    Source: HiFi-GAN (Kong et al. 2020, section 2.2), with a speaker vector added after the first convolution.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        block = DilatedPairBlock if config.resblock == "1" else DilatedBlock
        channels = config.upsample_initial_channels
        self.n_kernels = len(config.resblock_kernel_sizes)
        self.conv_pre = nn.Conv1d(config.inter_channels, channels, 7, padding=3)
        self.cond = speaker_projection(config, channels)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            upsample = nn.ConvTranspose1d(
                channels, channels // 2, kernel_size, stride=rate, padding=(kernel_size - rate) // 2
            )
            self.ups.append(weight_norm(upsample))
            channels //= 2
            self.resblocks.extend(
                block(channels, size, dilations)
                for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
            )
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=False)

    def forward(self, latent: Tensor, speaker_embedding: Tensor | None = None) -> Tensor:
        """Decode a latent (B, C, T) with speaker embedding (B, G, 1) or None → waveform (B, 1, S) in -1..1."""
        hidden = add_speaker(self.conv_pre(latent), self.cond, speaker_embedding)
        for index, upsample in enumerate(self.ups):
            hidden = upsample(functional.leaky_relu(hidden, LEAKY_SLOPE))
            blocks = self.resblocks[index * self.n_kernels : (index + 1) * self.n_kernels]
            total = blocks[0](hidden)
            for block in blocks[1:]:
                total = total + block(hidden)
            hidden = total / self.n_kernels
        # The last activation has torch's default slope, 0.01, as published weights were trained with. No autocast:
        # samples rounded to half precision are audibly noisy.
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.tanh(self.conv_post(functional.leaky_relu(hidden.float())))

    def remove_weight_norm(self) -> None:
        """Fold the weight normalisation for inference; the decoder cannot be trained afterwards."""
        remove_weight_norms(self)


class DilatedPairBlock(nn.Module):
    """Residual pairs of a dilated and a plain convolution, (B, C, T) → (B, C, T); "resblock 1"."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same_conv(channels, kernel_size, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same_conv(channels, kernel_size, 1) for _ in dilations)

    def forward(self, hidden: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            residual = dilated(functional.leaky_relu(hidden, LEAKY_SLOPE))
            hidden = hidden + plain(functional.leaky_relu(residual, LEAKY_SLOPE))
        return hidden


class DilatedBlock(nn.Module):
    """Residual dilated convolutions, (B, C, T) → (B, C, T); "resblock 2"."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_same_conv(channels, kernel_size, dilation) for dilation in dilations)

    def forward(self, hidden: Tensor) -> Tensor:
        for conv in self.convs:
            hidden = hidden + conv(functional.leaky_relu(hidden, LEAKY_SLOPE))
        return hidden


def _same_conv(channels: int, kernel_size: int, dilation: int) -> nn.Module:
    padding = dilation * (kernel_size - 1) // 2
    convolution = nn.Conv1d(channels, channels, kernel_size, dilation=dilation, padding=padding)
    normalised: nn.Module = weight_norm(convolution)
    return normalised
