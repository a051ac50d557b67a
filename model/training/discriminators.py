"""Discriminators of waveforms, at several periods and at full rate, and of phone durations.

Real and generated clips go through each network as one batch, so nothing is computed twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from model.config import DiscriminatorConfig
from model.networks.attention import ChannelNorm

LEAKY_SLOPE = 0.1
DURATION_DROPOUT = 0.1

# Widths as multiples of the base width, capped at max_channels.
PERIOD_WIDTHS = (1, 4, 16, 32, 32)
SCALE_WIDTHS = (0.5, 2, 8, 32, 32, 32)
SCALE_KERNEL_SIZES = (15, 41, 41, 41, 41, 5)
SCALE_STRIDES = (1, 4, 4, 4, 4, 1)
CHANNELS_PER_GROUP = 4  # in the scale discriminator's grouped convolutions


@dataclass(frozen=True)
class DiscriminatorOutput:
    """One network's output for a batch: logits (B, N), and the activation of every layer.

    Feature maps can only be compared between batches of one shape: the period discriminators fold the phase within
    the period into the batch axis, (B * period, C, T).
    """

    logits: Tensor
    feature_maps: list[Tensor]

    def split(self, n_first: int) -> tuple[DiscriminatorOutput, DiscriminatorOutput]:
        """Return the outputs of the first `n_first` clips of the batch and of the others."""
        n_clips = len(self.logits)
        maps = [(each, len(each) // n_clips * n_first) for each in self.feature_maps]
        return (
            DiscriminatorOutput(self.logits[:n_first], [each[:n_rows] for each, n_rows in maps]),
            DiscriminatorOutput(self.logits[n_first:], [each[n_rows:] for each, n_rows in maps]),
        )


@dataclass(frozen=True)
class DiscriminatorPair:
    """Outputs of every network for the real and for the generated clips."""

    real: list[DiscriminatorOutput]
    generated: list[DiscriminatorOutput]


class MultiPeriodDiscriminator(nn.Module):
    """A scale discriminator (if `use_scale`) and one discriminator per period.

    Source: HiFi-GAN (Kong et al. 2020, section 2.3).
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        networks: list[nn.Module] = [ScaleDiscriminator(config)] if config.use_scale else []
        networks += [PeriodDiscriminator(config, period) for period in config.periods]
        self.discriminators = nn.ModuleList(networks)

    def forward(self, real: Tensor, generated: Tensor) -> DiscriminatorPair:
        """Run real and generated waveforms, (B, 1, S) each, in one pass, for the discriminator's step."""
        outputs = self.outputs(torch.cat((real, generated)))
        pairs = [output.split(len(real)) for output in outputs]
        return DiscriminatorPair([first for first, _ in pairs], [second for _, second in pairs])

    def outputs(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        """Return every network's output for one batch (B, 1, S).

        The generator's step runs real clips without gradients and generated clips with them: half the backward pass
        of a joint batch.
        """
        return [discriminator(waveform) for discriminator in self.discriminators]


class PeriodDiscriminator(nn.Module):
    """Convolutions over every `period`-th sample, waveform (B, 1, S) → output with logits (B, N)."""

    def __init__(self, config: DiscriminatorConfig, period: int) -> None:
        super().__init__()
        self.period = period
        widths = [min(config.channels * multiple, config.max_channels) for multiple in PERIOD_WIDTHS]
        strides = (3, 3, 3, 3, 1)
        self.convs = nn.ModuleList(
            weight_norm(PhaseConv(n_in, n_out, (5, 1), (stride, 1), padding=(2, 0)))
            for n_in, n_out, stride in zip([1, *widths[:-1]], widths, strides, strict=True)
        )
        self.conv_post = weight_norm(PhaseConv(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        n_clips = len(waveform)
        missing = -waveform.shape[-1] % self.period
        if missing:
            waveform = functional.pad(waveform, (0, missing), mode="reflect")
        # The kernels are one phase wide, so phases can be batch items: (B, 1, S) → (B * period, 1, S / period).
        phases = waveform.view(n_clips, -1, self.period).transpose(1, 2)
        hidden = phases.reshape(n_clips * self.period, 1, -1)
        logits, feature_maps = _activations(hidden, self.convs, self.conv_post)
        by_time = logits.view(n_clips, self.period, -1).transpose(1, 2)
        return DiscriminatorOutput(by_time.flatten(1), feature_maps)


class PhaseConv(nn.Conv2d):
    """Convolution of kernel (K, 1) over clips (B, C, T) instead of images (B, C, T, 1).

    Parameters keep the two-dimensional shape of published checkpoints. With time as the innermost axis the CPU kernels
    take half the time that they take for images one pixel wide.
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.conv1d(input, self.weight.squeeze(-1), self.bias, self.stride[0], int(self.padding[0]))


class ScaleDiscriminator(nn.Module):
    """Grouped strided convolutions over the waveform at full rate, (B, 1, S) → output with logits (B, N)."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        widths = [min(max(1, int(config.channels * multiple)), config.max_channels) for multiple in SCALE_WIDTHS]
        self.convs = nn.ModuleList()
        last = len(widths) - 1
        for index, (n_in, n_out) in enumerate(zip([1, *widths[:-1]], widths, strict=True)):
            size = SCALE_KERNEL_SIZES[index]
            # The number of groups must divide both widths, for any base width and cap.
            groups = 1 if index == last else math.gcd(max(1, n_in // CHANNELS_PER_GROUP), n_in, n_out)
            conv = nn.Conv1d(n_in, n_out, size, SCALE_STRIDES[index], padding=size // 2, groups=groups)
            self.convs.append(weight_norm(conv))
        self.conv_post = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        logits, feature_maps = _activations(waveform, self.convs, self.conv_post)
        return DiscriminatorOutput(logits.flatten(1), feature_maps)


class DurationDiscriminator(nn.Module):
    """Probability that each phone's log-duration is real, given the encoded text.

    The text encoding is detached: gradients reach the generator through the durations only.
    Source: VITS2 (Kong et al. 2023, section 2.1).
    """

    def __init__(
        self,
        *,
        in_channels: int,
        filter_channels: int,
        kernel_size: int = 3,
        speaker_channels: int = 0,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.dropout = nn.Dropout(DURATION_DROPOUT)
        self.cond = nn.Conv1d(speaker_channels, in_channels, 1) if speaker_channels else None
        self.conv_1 = nn.Conv1d(in_channels, filter_channels, kernel_size, padding=padding)
        self.norm_1 = ChannelNorm(filter_channels)
        self.conv_2 = nn.Conv1d(filter_channels, filter_channels, kernel_size, padding=padding)
        self.norm_2 = ChannelNorm(filter_channels)
        self.dur_proj = nn.Conv1d(1, filter_channels, 1)
        self.pre_out_conv_1 = nn.Conv1d(2 * filter_channels, filter_channels, kernel_size, padding=padding)
        self.pre_out_norm_1 = ChannelNorm(filter_channels)
        self.pre_out_conv_2 = nn.Conv1d(filter_channels, filter_channels, kernel_size, padding=padding)
        self.pre_out_norm_2 = ChannelNorm(filter_channels)
        self.output_layer = nn.Sequential(nn.Linear(filter_channels, 1), nn.Sigmoid())

    def forward(
        self,
        encoded_phones: Tensor,
        phone_mask: Tensor,
        real_log_durations: Tensor,
        generated_log_durations: Tensor,
        speaker_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the probabilities (B, P, 1) of real and of generated log-durations (B, 1, P).

        Encoded phones (B, C, P), mask (B, 1, P), speaker embedding (B, G, 1).
        """
        hidden = encoded_phones.detach()
        if self.cond is not None and speaker_embedding is not None:
            hidden = hidden + self.cond(speaker_embedding.detach())
        hidden = self._layer(hidden * phone_mask, self.conv_1, self.norm_1)
        hidden = self._layer(hidden * phone_mask, self.conv_2, self.norm_2)
        log_durations = torch.cat((real_log_durations, generated_log_durations))
        mask = torch.cat((phone_mask, phone_mask))
        joint = torch.cat((torch.cat((hidden, hidden)), self.dur_proj(log_durations)), dim=1)
        joint = self._layer(joint * mask, self.pre_out_conv_1, self.pre_out_norm_1)
        joint = self._layer(joint * mask, self.pre_out_conv_2, self.pre_out_norm_2)
        real, generated = self.output_layer((joint * mask).transpose(1, 2)).chunk(2)
        return real, generated

    def _layer(self, hidden: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
        outputs: Tensor = self.dropout(norm(torch.relu(conv(hidden))))
        return outputs


def _activations(hidden: Tensor, convs: nn.ModuleList, conv_post: nn.Module) -> tuple[Tensor, list[Tensor]]:
    feature_maps = []
    for conv in convs:
        hidden = functional.leaky_relu(conv(hidden), LEAKY_SLOPE)
        feature_maps.append(hidden)
    logits = conv_post(hidden)
    return logits, [*feature_maps, logits]
