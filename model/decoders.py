"""Decoders from latent frames to a waveform: a HiFi-GAN, and a ConvNeXt with an inverse-STFT head.

Both map a latent (B, C, T) and an optional speaker embedding (B, G, 1) to a waveform (B, 1, T * hop_samples).
The HiFi-GAN upsamples step by step; the inverse-STFT decoder works at frame rate throughout, which makes it
some hundred times cheaper on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from model.config import ConfigError, ModelConfig

LEAKY_SLOPE = 0.1
# A ceiling far above any real spectrum of a waveform in -1..1, so that an outlier cannot overflow.
MAX_MAGNITUDE = 1e2
CONVNEXT_KERNEL_SIZE = 7


def build_decoder(config: ModelConfig) -> HifiGanDecoder | IstftDecoder:
    """The decoder that `config.decoder` names."""
    return IstftDecoder(config) if config.decoder == "istft" else HifiGanDecoder(config)


def remove_weight_norms(module: nn.Module) -> None:
    """Fold every weight normalisation below `module` into plain weights; the function stays the same."""
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
        self.cond = _speaker_projection(config, channels)
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
                for size, dilations in zip(
                    config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
                )
            )
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=False)

    def forward(self, latent: Tensor, speaker_embedding: Tensor | None = None) -> Tensor:
        """Latent (B, C, T), speaker embedding (B, G, 1) or None → waveform (B, 1, S) in -1..1."""
        hidden = _add_speaker(self.conv_pre(latent), self.cond, speaker_embedding)
        for index, upsample in enumerate(self.ups):
            hidden = upsample(functional.leaky_relu(hidden, LEAKY_SLOPE))
            blocks = self.resblocks[index * self.n_kernels : (index + 1) * self.n_kernels]
            total = blocks[0](hidden)
            for block in blocks[1:]:
                total = total + block(hidden)
            hidden = total / self.n_kernels
        # The last activation has torch's default slope, 0.01: published weights were trained with it. Under autocast the
        # samples would be rounded to half precision, which is audible.
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.tanh(self.conv_post(functional.leaky_relu(hidden.float())))

    def remove_weight_norm(self) -> None:
        """Fold the weight normalisation for inference; training cannot go on afterwards."""
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


class IstftDecoder(nn.Module):
    """ConvNeXt blocks at frame rate and an inverse STFT of a predicted magnitude and phase.

    Source: Vocos (Siuzdak 2023, section 3), with a speaker vector added after the first convolution.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.istft_channels
        self.embed = nn.Conv1d(config.inter_channels, channels, CONVNEXT_KERNEL_SIZE, padding="same")
        self.cond = _speaker_projection(config, channels)
        self.norm_pre = nn.LayerNorm(channels, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, config.istft_filter_channels, initial_scale=1 / config.istft_layers)
            for _ in range(config.istft_layers)
        )
        self.norm_post = nn.LayerNorm(channels, eps=1e-6)
        self.head = IstftHead(channels, n_fft=config.istft_n_fft, hop_samples=config.hop_samples)

    def forward(self, latent: Tensor, speaker_embedding: Tensor | None = None) -> Tensor:
        """Latent (B, C, T), speaker embedding (B, G, 1) or None → waveform (B, 1, T * hop_samples)."""
        embedded = _add_speaker(self.embed(latent), self.cond, speaker_embedding)
        hidden = self.norm_pre(embedded.transpose(1, 2))  # (B, C, T) → (B, T, C)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm_post(hidden)).unsqueeze(1)

    def remove_weight_norm(self) -> None:
        """Nothing to fold: layer norms depend on the input. Here so that both decoders have one interface."""


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution and a pointwise bottleneck, residual, (B, T, C) → (B, T, C).

    Source: ConvNeXt (Liu et al. 2022, section 2.6).
    """

    def __init__(self, channels: int, filter_channels: int, *, initial_scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, (1, CONVNEXT_KERNEL_SIZE), padding="same", groups=channels
        )
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, filter_channels)
        self.contract = nn.Linear(filter_channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), initial_scale))

    def forward(self, hidden: Tensor) -> Tensor:
        # (B, T, C) seen as (B, C, 1, T) has the channels-last layout, in which a depthwise convolution
        # and its gradients are two to six times faster on CPU than Conv1d.
        mixed = self.depthwise(hidden.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        update = self.contract(functional.gelu(self.expand(self.norm(mixed))))
        return hidden + self.scale * update


class IstftHead(nn.Module):
    """Frames (B, T, C) → waveform (B, T * hop_samples) through one inverse transform per frame.

    Raises ConfigError if frames overlap less than twofold: the window's ends could not be divided out.
    """

    def __init__(self, channels: int, *, n_fft: int, hop_samples: int) -> None:
        super().__init__()
        if n_fft < 2 * hop_samples or n_fft % 2:
            raise ConfigError(
                f"istft_n_fft {n_fft} must be even and at least twice hop_samples {hop_samples}"
            )
        self.n_fft = n_fft
        self.hop_samples = hop_samples
        self.projection = nn.Linear(channels, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.window: Tensor

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):  # a phase of half precision is noise
            log_magnitude, phase = self.projection(hidden.float()).chunk(2, dim=-1)
        magnitude = torch.exp(torch.clamp(log_magnitude, max=math.log(MAX_MAGNITUDE)))
        frames = torch.fft.irfft(torch.polar(magnitude, phase), n=self.n_fft) * self.window
        envelope = self._overlap_add(self.window.square().expand(1, hidden.shape[1], -1))
        return self._overlap_add(frames) / envelope

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Frames (B, T, n_fft) → (B, T * hop_samples): the sum, less half the overlap at each end."""
        batch, n_frames, _ = frames.shape
        pieces = -(-self.n_fft // self.hop_samples)
        missing = pieces * self.hop_samples - self.n_fft
        chunks = functional.pad(frames, (0, missing)).view(batch, n_frames, pieces, self.hop_samples)
        total = frames.new_zeros(batch, n_frames + pieces - 1, self.hop_samples)
        for piece in range(pieces):  # shifted sums: torch's fold is slower, forward and backward
            total[:, piece : piece + n_frames] += chunks[:, :, piece]
        start = (self.n_fft - self.hop_samples) // 2
        return total.flatten(1)[:, start : start + n_frames * self.hop_samples]


def _same_conv(channels: int, kernel_size: int, dilation: int) -> nn.Module:
    padding = dilation * (kernel_size - 1) // 2
    return weight_norm(nn.Conv1d(channels, channels, kernel_size, dilation=dilation, padding=padding))


def _speaker_projection(config: ModelConfig, channels: int) -> nn.Conv1d | None:
    size = config.effective_speaker_channels
    return nn.Conv1d(size, channels, 1) if size else None


def _add_speaker(hidden: Tensor, projection: nn.Conv1d | None, speaker_embedding: Tensor | None) -> Tensor:
    if projection is None:
        return hidden
    if speaker_embedding is None:
        raise ValueError("this decoder is conditioned on a speaker, but no speaker embedding was given")
    return hidden + projection(speaker_embedding)
