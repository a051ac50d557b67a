"""Networks over acoustic frames: WaveNet stack, posterior encoder, reference (speaker) encoder.

Legend: B batch, T frames, C channels, G speaker channels. Masks are (B, 1, T).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from model.config import ModelConfig
from model.networks.masks import fused_gate, sequence_mask
from model.networks.random_draws import RandomDraws

FIRST_LOG_STD = -2.5  # initial, where the latent starts as the input
REFERENCE_ENCODER_WIDTHS = (32, 32, 64, 64, 128, 128)


class WaveNet(nn.Module):
    """Gated dilated convolutions with residual and skip paths (van den Oord et al. 2016), not causal."""

    def __init__(
        self,
        *,
        hidden_channels: int,
        kernel_size: int,
        dilation_rate: int,
        n_layers: int,
        speaker_channels: int = 0,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} is even; use an odd one to keep the length")
        self.hidden_channels = hidden_channels
        self.gate_convs = nn.ModuleList()
        self.residual_convs = nn.ModuleList()
        if speaker_channels:
            self.speaker_gates = weight_norm(nn.Conv1d(speaker_channels, 2 * hidden_channels * n_layers, 1))
        for index in range(n_layers):
            dilation = dilation_rate**index
            self.gate_convs.append(
                weight_norm(
                    nn.Conv1d(
                        hidden_channels,
                        2 * hidden_channels,
                        kernel_size,
                        dilation=dilation,
                        padding=dilation * (kernel_size - 1) // 2,
                    )
                )
            )
            # The last layer has no residual path.
            out_channels = 2 * hidden_channels if index < n_layers - 1 else hidden_channels
            self.residual_convs.append(weight_norm(nn.Conv1d(hidden_channels, out_channels, 1)))

    def forward(self, inputs: Tensor, mask: Tensor, speaker_embedding: Tensor | None = None) -> Tensor:
        """Transform (B, C, T) with mask (B, 1, T) and speaker embedding (B, G, 1) or None → (B, C, T)."""
        n_layers = len(self.gate_convs)
        conditions: tuple[Tensor | None, ...] = (None,) * n_layers
        if speaker_embedding is not None:
            conditions = self.speaker_gates(speaker_embedding).chunk(n_layers, dim=1)
        hidden, skipped = inputs, torch.zeros_like(inputs)
        for gate_conv, residual_conv, condition in zip(self.gate_convs, self.residual_convs, conditions, strict=True):
            outputs = residual_conv(fused_gate(gate_conv(hidden), condition))
            if outputs.shape[1] > self.hidden_channels:
                residual, outputs = outputs.chunk(2, dim=1)
                hidden = (hidden + residual) * mask
            skipped = skipped + outputs
        return skipped * mask


@dataclass(frozen=True)
class PosteriorEncoding:
    """Sampled latent, mean and log standard deviation (B, Z, T) and frame mask (B, 1, T)."""

    latent: Tensor
    mean: Tensor
    log_std: Tensor
    frame_mask: Tensor


class PosteriorEncoder(nn.Module):
    """Linear or mel spectrogram → latent frames (Kim et al. 2021, VITS, 2.5.1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pre = nn.Conv1d(config.spectrogram_channels, config.hidden_channels, 1)
        self.wavenet = WaveNet(
            hidden_channels=config.hidden_channels,
            kernel_size=config.posterior_kernel_size,
            dilation_rate=config.posterior_dilation_rate,
            n_layers=config.posterior_layers,
            speaker_channels=config.effective_speaker_channels,
        )
        self.projection = nn.Conv1d(config.hidden_channels, 2 * config.inter_channels, 1)
        self.residual = config.latent_follows_mels
        if self.residual:  # the latent starts as the input with little noise
            nn.init.zeros_(self.projection.weight)
            with torch.no_grad():
                _, log_std = self.projection.bias.zero_().chunk(2)  # type: ignore[union-attr]
                log_std.fill_(FIRST_LOG_STD)

    def forward(
        self,
        spectrogram: Tensor,
        lengths: Tensor,
        speaker_embedding: Tensor | None = None,
        *,
        sample: bool = True,
        draws: RandomDraws | None = None,
    ) -> PosteriorEncoding:
        """Encode (B, C, T) of `lengths` (B,) frames; the latent is sampled by `draws` or the mean if not `sample`."""
        mask = sequence_mask(lengths, spectrogram.shape[2], spectrogram.dtype).unsqueeze(1)
        hidden = self.wavenet(self.pre(spectrogram) * mask, mask, speaker_embedding)
        mean, log_std = (self.projection(hidden) * mask).chunk(2, dim=1)
        if self.residual:
            mean = mean + spectrogram * mask
        if not sample:
            return PosteriorEncoding(mean, mean, log_std, mask)
        noise = (draws or RandomDraws()).normal(mean, lengths)
        return PosteriorEncoding((mean + noise * log_std.exp()) * mask, mean, log_std, mask)


class ReferenceEncoder(nn.Module):
    """Spectrogram of any length → one speaker vector (Skerry-Ryan et al. 2018, figure 2)."""

    def __init__(self, spectrogram_channels: int, speaker_channels: int) -> None:
        super().__init__()
        widths = (1, *REFERENCE_ENCODER_WIDTHS)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(inner, outer, kernel_size=3, stride=2, padding=1))
            for inner, outer in itertools.pairwise(widths)
        )
        bands = spectrogram_channels
        for _ in self.convs:
            bands = (bands + 1) // 2  # output size at stride 2, padding 1
        self.gru = nn.GRU(widths[-1] * bands, widths[-1], batch_first=True)
        self.projection = nn.Linear(widths[-1], speaker_channels)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Summarise (B, T, C) → (B, G)."""
        hidden = spectrogram.unsqueeze(1)  # (B, 1, T, C)
        for conv in self.convs:
            hidden = conv(hidden).relu()
        _, final_state = self.gru(hidden.transpose(1, 2).flatten(2))  # (B, F, T', C') → (B, T', F·C')
        speaker_vector: Tensor = self.projection(final_state[-1])
        return speaker_vector
