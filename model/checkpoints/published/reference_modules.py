"""Modules of the reference (Bert-VITS2 1.1) that no voice of this project uses.

They exist for parity: reference checkpoints load into them, and tests compare their outputs with the reference's.
Legend: B batch, C channels, H heads, L queries, M keys, D = C / H.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.attention import ChannelNorm, FeedForward, MultiHeadAttention
from model.networks.text_encoder import TransformerShape

Item = TypeVar("Item")


class ReferenceAttention(MultiHeadAttention):
    """Attention with the reference's options.

    share_heads: one set of relative embeddings for all heads. block_length: masks out keys beyond this distance, if a
    mask is given. proximal_bias: subtracts log(1 + distance) from the scores. proximal_init: initialises the key
    projection with the query projection.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        n_heads: int,
        *,
        window: int | None = None,
        dropout: float = 0.0,
        share_heads: bool = True,
        block_length: int | None = None,
        proximal_bias: bool = False,
        proximal_init: bool = False,
    ) -> None:
        super().__init__(channels, out_channels, n_heads, window=window, dropout=dropout)
        self.block_length = block_length
        self.proximal_bias = proximal_bias
        if window is not None and not share_heads:
            shape = (n_heads, *self.relative_keys.shape[1:])
            self.relative_keys = nn.Parameter(torch.randn(shape) * shape[2] ** -0.5)
            self.relative_values = nn.Parameter(torch.randn(shape) * shape[2] ** -0.5)
        if proximal_init:
            self.key.load_state_dict(self.query.state_dict())

    def probabilities(self, queries: Tensor, keys: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Return attention weights (B, H, L, M); ValueError where distances are needed and L is not M."""
        if blocked is not None and self.block_length is not None:
            blocked = blocked | (_distances(queries, keys) > self.block_length)
        return super().probabilities(queries, keys, blocked)

    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        scores = super()._scores(queries, keys)
        return scores - torch.log1p(_distances(queries, keys)) if self.proximal_bias else scores


class ReferenceFeedForward(FeedForward):
    """Feed-forward block with the reference's options.

    causal: no future positions. gelu: the sigmoid form of GELU (Hendrycks & Gimpel 2016) instead of a rectifier.
    """

    def __init__(self, *, causal: bool = False, gelu: bool = False, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.causal = causal
        self.gelu = gelu

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Apply to (B, C, L) with mask (B, 1, L)."""
        hidden = self._convolve(self.expand, inputs * mask)
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self.gelu else hidden.relu()
        return self._convolve(self.contract, self.dropout(hidden) * mask) * mask

    def _convolve(self, convolution: nn.Conv1d, inputs: Tensor) -> Tensor:
        if not self.causal:
            return super()._convolve(convolution, inputs)
        return F.conv1d(F.pad(inputs, (convolution.kernel_size[0] - 1, 0)), convolution.weight, convolution.bias)


class TransformerDecoder(nn.Module):
    """Causal self-attention, attention over encoded inputs and causal feed-forward layers."""

    def __init__(self, shape: TransformerShape, *, proximal_bias: bool = False, proximal_init: bool = False) -> None:
        super().__init__()
        channels, n_heads, layers = shape.hidden_channels, shape.n_heads, range(shape.n_layers)
        self.dropout = nn.Dropout(shape.dropout)
        self.self_attentions = nn.ModuleList(
            ReferenceAttention(
                channels,
                channels,
                n_heads,
                window=shape.window,
                dropout=shape.dropout,
                proximal_bias=proximal_bias,
                proximal_init=proximal_init,
            )
            for _ in layers
        )
        self.self_attention_norms = nn.ModuleList(ChannelNorm(channels) for _ in layers)
        self.cross_attentions = nn.ModuleList(
            ReferenceAttention(channels, channels, n_heads, dropout=shape.dropout) for _ in layers
        )
        self.attention_norms = nn.ModuleList(ChannelNorm(channels) for _ in layers)
        self.feed_forwards = nn.ModuleList(
            ReferenceFeedForward(
                causal=True,
                channels=channels,
                out_channels=channels,
                filter_channels=shape.filter_channels,
                kernel_size=shape.kernel_size,
                dropout=shape.dropout,
            )
            for _ in layers
        )
        self.feed_forward_norms = nn.ModuleList(ChannelNorm(channels) for _ in layers)

    def forward(self, inputs: Tensor, mask: Tensor, encoded: Tensor, encoded_mask: Tensor) -> Tensor:
        """Decode (B, C, L) with mask (B, 1, L) over encoded (B, C, M) with mask (B, 1, M) → (B, C, L)."""
        future = subsequent_mask(mask.shape[2], mask.device) == 0
        blocked = (encoded_mask.unsqueeze(2) * mask.unsqueeze(3)) == 0  # (B, 1, L, M)
        hidden = inputs * mask
        for index in range(len(self.self_attentions)):
            update = self.self_attentions[index](hidden, hidden, future)
            hidden = self.self_attention_norms[index](hidden + self.dropout(update))
            update = self.cross_attentions[index](hidden, encoded, blocked)
            hidden = self.attention_norms[index](hidden + self.dropout(update))
            update = self.feed_forwards[index](hidden, mask)
            hidden = self.feed_forward_norms[index](hidden + self.dropout(update))
        return hidden * mask


def subsequent_mask(length: int, device: torch.device | None = None) -> Tensor:
    """Return the causal mask (1, 1, L, L): position i attends to positions up to i."""
    return torch.ones(1, 1, length, length, device=device).tril()


def timing_signal(length: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Return position codes (1, C, L): sines, then cosines, of timescales from 1 to 1e4 (Vaswani et al. 2017, 3.5)."""
    n_timescales = channels // 2
    step = math.log(1e4) / max(n_timescales - 1, 1)
    rates = torch.exp(-step * torch.arange(n_timescales, device=device, dtype=torch.float32))
    angles = rates.unsqueeze(1) * torch.arange(length, device=device, dtype=torch.float32)
    signal = torch.cat([angles.sin(), angles.cos()])
    return F.pad(signal, (0, 0, 0, channels % 2)).unsqueeze(0)


def add_timing_signal(sequence: Tensor) -> Tensor:
    """Add position codes to (B, C, L)."""
    return sequence + timing_signal(sequence.shape[2], sequence.shape[1], sequence.device).to(sequence.dtype)


def append_timing_signal(sequence: Tensor) -> Tensor:
    """Append position codes as channels: (B, C, L) → (B, 2C, L), for any batch size."""
    signal = timing_signal(sequence.shape[2], sequence.shape[1], sequence.device).to(sequence.dtype)
    return torch.cat([sequence, signal.expand_as(sequence)], dim=1)


def shift_right(sequence: Tensor) -> Tensor:
    """Delay (B, C, L) by one position; the first becomes zero."""
    return F.pad(sequence, (1, 0))[..., :-1]


def intersperse(items: Sequence[Item], separator: Item) -> list[Item]:
    """Put the separator before, between and after the items: n → 2n + 1."""
    spread = [separator] * (2 * len(items) + 1)
    spread[1::2] = items
    return spread


def gaussian_kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """Return the KL divergence in nats of each normal distribution from the other, elementwise.

    Source: Kullback and Leibler 1951; in closed form log(s2 / s1) + (s1² + (m1 - m2)²) / (2 s2²) - 1/2.
    """
    spread = torch.exp(2.0 * log_std) + (mean - other_mean).square()
    return other_log_std - log_std - 0.5 + 0.5 * spread * torch.exp(-2.0 * other_log_std)


def _distances(queries: Tensor, keys: Tensor) -> Tensor:
    """Return the distance of every query (B, C, L) from every key (B, C, M): (L, L)."""
    length, n_keys = queries.shape[2], keys.shape[2]
    if length != n_keys:
        raise ValueError(f"distances need as many keys as queries, found {n_keys} and {length}")
    positions = torch.arange(length, device=queries.device, dtype=torch.float32)
    return (positions.unsqueeze(0) - positions.unsqueeze(1)).abs()
