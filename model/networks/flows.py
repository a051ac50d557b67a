"""Normalising flow between posterior and prior latents, and the rational quadratic spline of duration flows.

Legend: B batch, T frames, C channels, G speaker channels. Masks are (B, 1, T).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.networks.posterior_encoder import WaveNet
from model.networks.text_encoder import TransformerEncoder, TransformerShape

MIN_BIN_SIZE = 1e-3
MIN_DERIVATIVE = 1e-3


class Coupling(nn.Module):
    """Mean-only affine coupling: one half of the channels shifts the other (Dinh et al. 2017, section 3.2).

    The network between the two convolutions is an argument, so that several couplings can share one.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.pre = nn.Conv1d(channels // 2, hidden_channels, 1)
        self.post = nn.Conv1d(hidden_channels, channels // 2, 1)
        # The identity at first, which keeps early training stable.
        for parameter in self.post.parameters():
            nn.init.zeros_(parameter)

    def forward(self, kept: Tensor, mask: Tensor, network: nn.Module, speaker_embedding: Tensor | None) -> Tensor:
        """Return the shift (B, C/2, T) of the other half, given the unchanged half (B, C/2, T)."""
        shift: Tensor = self.post(network(self.pre(kept) * mask, mask, speaker_embedding)) * mask
        return shift


class CouplingFlow(nn.Module):
    """Invertible, volume-preserving stack of couplings, with the channel order reversed after each."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n_networks = 1 if config.share_flow_parameters else config.n_flows
        self.couplings = nn.ModuleList(
            Coupling(config.inter_channels, config.hidden_channels) for _ in range(config.n_flows)
        )
        self.networks = nn.ModuleList(_flow_network(config) for _ in range(n_networks))

    def forward(
        self, latent: Tensor, mask: Tensor, speaker_embedding: Tensor | None = None, *, reverse: bool = False
    ) -> Tensor:
        """Map posterior latents (B, C, T) to prior latents, or back with `reverse`."""
        for index in reversed(range(len(self.couplings))) if reverse else range(len(self.couplings)):
            coupling = self.couplings[index]
            network = self.networks[index % len(self.networks)]
            if reverse:
                kept, moved = latent.flip(1).chunk(2, dim=1)
                moved = (moved - coupling(kept, mask, network, speaker_embedding)) * mask
                latent = torch.cat([kept, moved], dim=1)
            else:
                kept, moved = latent.chunk(2, dim=1)
                moved = moved * mask + coupling(kept, mask, network, speaker_embedding)
                latent = torch.cat([moved.flip(1), kept.flip(1)], dim=1)
        return latent


def _flow_network(config: ModelConfig) -> nn.Module:
    """Return the network inside a coupling: transformer layers or a WaveNet, by configuration."""
    speaker_channels = config.effective_speaker_channels
    if config.flow == "residual":
        return WaveNet(
            hidden_channels=config.hidden_channels,
            kernel_size=config.flow_kernel_size,
            dilation_rate=1,
            n_layers=config.flow_layers,
            speaker_channels=speaker_channels,
        )
    shape = TransformerShape(
        hidden_channels=config.hidden_channels,
        filter_channels=config.filter_channels,
        n_heads=config.n_heads,
        n_layers=config.flow_layers,
        kernel_size=config.flow_kernel_size,
        dropout=config.dropout,
        window=config.attention_window,
    )
    # The speaker vector is added before the third layer, or the last of a shallower stack (Kong et al. 2023, VITS2).
    return TransformerEncoder(
        shape, speaker_channels=speaker_channels, speaker_layer_index=min(2, config.flow_layers - 1)
    )


def rational_quadratic_spline(
    inputs: Tensor,
    widths: Tensor,
    heights: Tensor,
    derivatives: Tensor,
    *,
    bound: float,
    inverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Apply a monotonic spline on [-bound, bound], the identity outside (Durkan et al. 2019, section 3.1).

    inputs (...), unnormalised widths and heights (..., K) of K bins, derivatives (..., K - 1) at inner knots
    → outputs and log |d output / d input|, both (...).
    """
    n_bins = widths.shape[-1]
    if n_bins * MIN_BIN_SIZE > 1:
        raise ValueError(f"{n_bins} bins of at least {MIN_BIN_SIZE} do not fit")
    inside = (inputs >= -bound) & (inputs <= bound)
    clamped = inputs.clamp(-bound, bound)
    x_knots = _knots(widths, bound)
    y_knots = _knots(heights, bound)
    # Slope 1 at both ends continues the identity outside.
    edge = math.log(math.exp(1 - MIN_DERIVATIVE) - 1)
    slopes = MIN_DERIVATIVE + F.softplus(F.pad(derivatives, (1, 1), value=edge))

    known = y_knots if inverse else x_knots
    bins = (clamped.unsqueeze(-1) >= known[..., 1:-1]).sum(-1, keepdim=True)

    def pick(values: Tensor, offset: int = 0) -> Tensor:
        return values.gather(-1, bins + offset).squeeze(-1)

    left, bottom = pick(x_knots), pick(y_knots)
    width, height = pick(x_knots, 1) - left, pick(y_knots, 1) - bottom
    slope_left, slope_right = pick(slopes), pick(slopes, 1)
    slope = height / width
    curvature = slope_left + slope_right - 2 * slope

    if inverse:
        rise = clamped - bottom
        a = rise * curvature + height * (slope - slope_left)
        b = height * slope_left - rise * curvature
        c = -slope * rise
        # This form of the root avoids cancellation for small `a`.
        position = 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0).sqrt())
        outputs = position * width + left
    else:
        position = (clamped - left) / width
    spread = position * (1 - position)
    denominator = slope + curvature * spread
    if not inverse:
        outputs = bottom + height * (slope * position.square() + slope_left * spread) / denominator
    numerator = slope.square() * (
        slope_right * position.square() + 2 * slope * spread + slope_left * (1 - position).square()
    )
    log_derivative = numerator.log() - 2 * denominator.log()
    if inverse:
        log_derivative = -log_derivative
    return torch.where(inside, outputs, inputs), torch.where(inside, log_derivative, 0.0)


def _knots(sizes: Tensor, bound: float) -> Tensor:
    """Return the positions (..., K + 1) of the bin edges for unnormalised sizes (..., K)."""
    shares = MIN_BIN_SIZE + (1 - MIN_BIN_SIZE * sizes.shape[-1]) * sizes.softmax(-1)
    inner = 2 * bound * shares[..., :-1].cumsum(-1) - bound
    return F.pad(F.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)
