"""Duration predictors: a convolutional one, and a stochastic one built from spline flows.

Both read detached hidden states, so they send no gradients to the text encoder. Legend: B batch, P phones, C channels,
G speaker channels. Masks are (B, 1, P).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.attention import ChannelNorm
from model.networks.flows import rational_quadratic_spline

LOG_TWO_PI = math.log(2 * math.pi)
SEPARABLE_LAYERS = 3
SPLINE_BINS = 10
SPLINE_BOUND = 5.0


class DurationPredictor(nn.Module):
    """Two convolutions that regress the log duration of each phone (Ren et al. 2019, FastSpeech, 3.3)."""

    def __init__(
        self,
        *,
        channels: int,
        filter_channels: int,
        kernel_size: int,
        dropout: float,
        speaker_channels: int = 0,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.dropout = nn.Dropout(dropout)
        self.first_conv = nn.Conv1d(channels, filter_channels, kernel_size, padding=padding)
        self.first_norm = ChannelNorm(filter_channels)
        self.second_conv = nn.Conv1d(filter_channels, filter_channels, kernel_size, padding=padding)
        self.second_norm = ChannelNorm(filter_channels)
        self.projection = nn.Conv1d(filter_channels, 1, 1)
        if speaker_channels:
            self.speaker_conv = nn.Conv1d(speaker_channels, channels, 1)

    def forward(self, hidden: Tensor, mask: Tensor, speaker_embedding: Tensor | None = None) -> Tensor:
        """Predict from hidden states (B, C, P) and speaker embedding (B, G, 1) or None → log durations (B, 1, P)."""
        hidden = hidden.detach()
        if speaker_embedding is not None:
            hidden = hidden + self.speaker_conv(speaker_embedding.detach())
        hidden = self.dropout(self.first_norm(self.first_conv(hidden * mask).relu()))
        hidden = self.dropout(self.second_norm(self.second_conv(hidden * mask).relu()))
        log_durations: Tensor = self.projection(hidden * mask) * mask
        return log_durations


class SeparableConvs(nn.Module):
    """Residual depthwise-separable convolutions whose dilation grows with the layer."""

    def __init__(self, *, channels: int, kernel_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        layers = range(SEPARABLE_LAYERS)
        self.depthwise_convs = nn.ModuleList(
            nn.Conv1d(
                channels,
                channels,
                kernel_size,
                groups=channels,
                dilation=kernel_size**index,
                padding=kernel_size**index * (kernel_size - 1) // 2,
            )
            for index in layers
        )
        self.pointwise_convs = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in layers)
        self.depthwise_norms = nn.ModuleList(ChannelNorm(channels) for _ in layers)
        self.pointwise_norms = nn.ModuleList(ChannelNorm(channels) for _ in layers)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Transform (B, C, P) → (B, C, P)."""
        for index in range(len(self.depthwise_convs)):
            update = F.gelu(self.depthwise_norms[index](self.depthwise_convs[index](hidden * mask)))
            update = F.gelu(self.pointwise_norms[index](self.pointwise_convs[index](update)))
            hidden = hidden + self.dropout(update)
        return hidden * mask


class ElementwiseAffine(nn.Module):
    """Learned scale and shift per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Transform (B, C, P) → outputs and log-determinant (B,)."""
        return (self.shift + self.log_scale.exp() * inputs) * mask, (self.log_scale * mask).sum((1, 2))

    def inverse(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """Undo `forward`."""
        return (outputs - self.shift) * (-self.log_scale).exp() * mask


class SplineCoupling(nn.Module):
    """Coupling of two channels: the first sets a spline that warps the second (Durkan et al. 2019)."""

    def __init__(self, *, hidden_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.scale = hidden_channels**-0.5
        self.pre = nn.Conv1d(1, hidden_channels, 1)
        self.convs = SeparableConvs(channels=hidden_channels, kernel_size=kernel_size)
        self.projection = nn.Conv1d(hidden_channels, 3 * SPLINE_BINS - 1, 1)
        for parameter in self.projection.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, inputs: Tensor, mask: Tensor, condition: Tensor, *, inverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Transform (B, 2, P) given a condition (B, C, P), or invert → outputs and log-determinant (B,)."""
        kept, moved = inputs.chunk(2, dim=1)
        hidden = self.projection(self.convs(self.pre(kept) + condition, mask)) * mask
        spline = hidden.transpose(1, 2).unsqueeze(1)  # (B, 3K - 1, P) → (B, 1, P, 3K - 1)
        widths, heights, derivatives = spline.split([SPLINE_BINS, SPLINE_BINS, SPLINE_BINS - 1], dim=-1)
        moved, log_derivative = rational_quadratic_spline(
            moved, widths * self.scale, heights * self.scale, derivatives, bound=SPLINE_BOUND, inverse=inverse
        )
        return torch.cat([kept, moved], dim=1) * mask, (log_derivative * mask).sum((1, 2))


class DurationFlow(nn.Module):
    """An affine flow, then spline couplings with the two channels swapped after each."""

    def __init__(self, *, n_couplings: int, hidden_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.affine = ElementwiseAffine(2)
        self.couplings = nn.ModuleList(
            SplineCoupling(hidden_channels=hidden_channels, kernel_size=kernel_size) for _ in range(n_couplings)
        )

    def forward(self, inputs: Tensor, mask: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Transform (B, 2, P) given a condition (B, C, P) → outputs and log-determinant (B,)."""
        hidden, log_determinant = self.affine(inputs, mask)
        for coupling in self.couplings:
            hidden, term = coupling(hidden, mask, condition)
            hidden = hidden.flip(1)
            log_determinant = log_determinant + term
        return hidden, log_determinant

    def sample(self, outputs: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """Map noise (B, 2, P) back, without the first coupling.

        That coupling changes only the auxiliary channel, which sampling discards.
        """
        for coupling in reversed(self.couplings[1:]):
            outputs, _ = coupling(outputs.flip(1), mask, condition, inverse=True)
        return self.affine.inverse(outputs.flip(1), mask)


class StochasticDurationPredictor(nn.Module):
    """Distribution of durations by dequantisation and augmentation (Kim et al. 2021, VITS, section 2.2.2)."""

    def __init__(
        self,
        *,
        channels: int,
        hidden_channels: int,
        kernel_size: int,
        dropout: float,
        n_couplings: int,
        speaker_channels: int = 0,
    ) -> None:
        super().__init__()
        self.pre = nn.Conv1d(channels, hidden_channels, 1)
        self.convs = SeparableConvs(channels=hidden_channels, kernel_size=kernel_size, dropout=dropout)
        self.projection = nn.Conv1d(hidden_channels, hidden_channels, 1)
        self.flow = DurationFlow(n_couplings=n_couplings, hidden_channels=hidden_channels, kernel_size=kernel_size)
        self.posterior_pre = nn.Conv1d(1, hidden_channels, 1)
        self.posterior_convs = SeparableConvs(channels=hidden_channels, kernel_size=kernel_size, dropout=dropout)
        self.posterior_projection = nn.Conv1d(hidden_channels, hidden_channels, 1)
        # The posterior always has four couplings, as in published checkpoints.
        self.posterior_flow = DurationFlow(n_couplings=4, hidden_channels=hidden_channels, kernel_size=kernel_size)
        if speaker_channels:
            self.speaker_conv = nn.Conv1d(speaker_channels, hidden_channels, 1)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        durations: Tensor,
        speaker_embedding: Tensor | None = None,
        *,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Return a bound (B,) on the negative log-likelihood in nats of durations (B, 1, P), summed over phones.

        `noise` (B, 2, P) is standard normal, drawn here if None.
        """
        condition = self._condition(hidden, mask, speaker_embedding)
        observed = self.posterior_convs(self.posterior_pre(durations), mask)
        observed = self.posterior_projection(observed) * mask
        if noise is None:
            noise = torch.randn(durations.shape[0], 2, durations.shape[2], device=hidden.device, dtype=hidden.dtype)
        noise = noise * mask
        posterior, log_determinant = self.posterior_flow(noise, mask, condition + observed)
        offset_logit, auxiliary = posterior.chunk(2, dim=1)
        log_determinant = log_determinant + ((F.logsigmoid(offset_logit) + F.logsigmoid(-offset_logit)) * mask).sum(
            (1, 2)
        )
        log_posterior = -_standard_normal_nll(noise, mask) - log_determinant

        continuous = (durations - offset_logit.sigmoid() * mask) * mask
        log_continuous = continuous.clamp_min(1e-5).log() * mask
        inputs = torch.cat([log_continuous, auxiliary], dim=1)
        outputs, log_determinant = self.flow(inputs, mask, condition)
        log_determinant = log_determinant - log_continuous.sum((1, 2))
        bound: Tensor = _standard_normal_nll(outputs, mask) - log_determinant + log_posterior
        return bound

    def sample(
        self,
        hidden: Tensor,
        mask: Tensor,
        speaker_embedding: Tensor | None = None,
        *,
        noise_scale: float | Tensor,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Sample log durations (B, 1, P) in frames; noise_scale 0 gives the centre of the distribution.

        `noise` (B, 2, P) is standard normal, drawn here if None.
        """
        condition = self._condition(hidden, mask, speaker_embedding)
        if noise is None:
            noise = torch.randn(mask.shape[0], 2, mask.shape[2], device=hidden.device, dtype=hidden.dtype)
        log_durations: Tensor = self.flow.sample(noise * noise_scale, mask, condition)[:, :1]
        return log_durations

    def _condition(self, hidden: Tensor, mask: Tensor, speaker_embedding: Tensor | None) -> Tensor:
        hidden = self.pre(hidden.detach())
        if speaker_embedding is not None:
            hidden = hidden + self.speaker_conv(speaker_embedding.detach())
        condition: Tensor = self.projection(self.convs(hidden, mask)) * mask
        return condition


def _standard_normal_nll(values: Tensor, mask: Tensor) -> Tensor:
    return (0.5 * (LOG_TWO_PI + values.square()) * mask).sum((1, 2))
