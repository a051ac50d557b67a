"""Attention with relative positions, feed-forward blocks and channel normalisation on (B, C, L) tensors.

Legend: B batch, C channels, H heads, L queries, M keys, D = C / H, W = 2·window + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.dropout import Dropout

MASKED_SCORE = -1e4  # finite, so that a row without any key still has a defined softmax


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of (B, C, L)."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        normalised = F.layer_norm(inputs.transpose(1, 2), self.gamma.shape, self.gamma, self.beta, self.eps)
        return normalised.transpose(1, 2)  # (B, L, C) → (B, C, L)


@dataclass(frozen=True)
class AttentionOptions:
    """How positions enter the scores.

    window: relative embeddings up to this distance (Shaw et al. 2018); None for none.
    share_heads: one set of relative embeddings for all heads.
    block_length: keys further away than this are masked out.
    proximal_bias: scores fall with log(1 + distance).
    proximal_init: the key projection starts equal to the query projection.
    """

    window: int | None = None
    share_heads: bool = True
    block_length: int | None = None
    proximal_bias: bool = False
    proximal_init: bool = False
    dropout: float = 0.0


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention: queries (B, C, L) over keys (B, C, M) → (B, C_out, L).

    Vaswani et al. 2017, section 3.2; relative positions as in Shaw et al. 2018, section 3.2.
    """

    def __init__(self, channels: int, out_channels: int, n_heads: int, options: AttentionOptions) -> None:
        super().__init__()
        if channels % n_heads:
            raise ValueError(f"{n_heads} heads do not divide {channels} channels")
        self.n_heads = n_heads
        self.options = options
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(channels, channels, 1)
        self.value = nn.Conv1d(channels, channels, 1)
        self.output = nn.Conv1d(channels, out_channels, 1)
        self.dropout = Dropout(options.dropout)
        for projection in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(projection.weight)
        if options.window is not None:
            head_channels = channels // n_heads
            shape = (1 if options.share_heads else n_heads, 2 * options.window + 1, head_channels)
            self.relative_keys = nn.Parameter(torch.randn(shape) * head_channels**-0.5)
            self.relative_values = nn.Parameter(torch.randn(shape) * head_channels**-0.5)
        if options.proximal_init:
            self.key.load_state_dict(self.query.state_dict())

    def forward(self, queries: Tensor, keys: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Attend; `blocked` is True where a key must not be seen, broadcastable to (B, H, L, M)."""
        value = self._heads(self.value, keys)
        probabilities = self.dropout(self.probabilities(queries, keys, blocked))
        attended = probabilities @ value  # (B, H, L, D)
        if self.options.window is not None:
            attended = attended + _diagonals(probabilities, self.options.window) @ self.relative_values
        merged = attended.transpose(1, 2).flatten(2)  # (B, H, L, D) → (B, L, C)
        return _project(self.output, merged).transpose(1, 2)

    def probabilities(self, queries: Tensor, keys: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Attention weights (B, H, L, M); rows sum to 1. Raises ValueError on relative cross-attention."""
        query = self._heads(self.query, queries) * (queries.shape[1] // self.n_heads) ** -0.5
        key = self._heads(self.key, keys)
        scores = query @ key.transpose(2, 3)
        length, n_keys = scores.shape[-2:]
        if length != n_keys and self._needs_equal_lengths:
            raise ValueError(f"relative attention needs as many keys as queries, found {n_keys} and {length}")
        if self.options.window is not None:
            scores = scores + _band(query @ self.relative_keys.transpose(1, 2))
        if self.options.proximal_bias:
            scores = scores - torch.log1p(_distances(length, scores.device))
        if blocked is not None:
            scores = scores.masked_fill(blocked, MASKED_SCORE)
            if self.options.block_length is not None:
                too_far = _distances(length, scores.device) > self.options.block_length
                scores = scores.masked_fill(too_far, MASKED_SCORE)
        return scores.softmax(dim=-1)

    @property
    def _needs_equal_lengths(self) -> bool:
        return (
            self.options.window is not None
            or self.options.proximal_bias
            or self.options.block_length is not None
        )

    def _heads(self, projection: nn.Conv1d, inputs: Tensor) -> Tensor:
        """Project (B, C, L) and split into heads (B, H, L, D)."""
        projected = _project(projection, inputs.transpose(1, 2))
        return projected.unflatten(2, (self.n_heads, -1)).transpose(1, 2)  # (B, L, H, D) → (B, H, L, D)


class FeedForward(nn.Module):
    """Two convolutions with an activation between: (B, C, L) → (B, C_out, L).

    causal: see past positions only. activation: "relu" or "gelu" (its sigmoid form, Hendrycks & Gimpel 2016).
    """

    def __init__(
        self,
        *,
        channels: int,
        out_channels: int,
        filter_channels: int,
        kernel_size: int,
        dropout: float = 0.0,
        causal: bool = False,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if activation not in ("relu", "gelu"):
            raise ValueError(f"activation {activation!r} is not one of relu, gelu")
        self.activation = activation
        self.padding = (kernel_size - 1, 0) if causal else ((kernel_size - 1) // 2, kernel_size // 2)
        symmetric = self.padding[0] if self.padding[0] == self.padding[1] else 0
        self.expand = nn.Conv1d(channels, filter_channels, kernel_size, padding=symmetric)
        self.contract = nn.Conv1d(filter_channels, out_channels, kernel_size, padding=symmetric)
        self.dropout = Dropout(dropout)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Apply to (B, C, L) with mask (B, 1, L); padding neither leaks in nor comes out."""
        hidden = self._convolve(self.expand, inputs * mask)
        hidden = hidden.relu() if self.activation == "relu" else hidden * torch.sigmoid(1.702 * hidden)
        return self._convolve(self.contract, self.dropout(hidden) * mask) * mask

    def _convolve(self, convolution: nn.Conv1d, inputs: Tensor) -> Tensor:
        if self.padding[0] != self.padding[1]:
            inputs = F.pad(inputs, self.padding)
        return convolution(inputs)


def _project(projection: nn.Conv1d, inputs: Tensor) -> Tensor:
    """Apply a convolution of one tap to (B, L, C) → (B, L, C_out): channels lie innermost, as `ChannelNorm` leaves them."""
    return F.linear(inputs, projection.weight.squeeze(2), projection.bias)


def _band(relative: Tensor) -> Tensor:
    """Spread per-distance scores over a square: (B, H, L, W) → (B, H, L, L), zero outside the band.

    Rows padded to L + W, then re-read as rows of L + W - 1, move one column to the right per row: entry w
    of row i lands in column i + w of a square with `window` extra columns on both sides.
    """
    batch, heads, length, width = relative.shape
    window = width // 2
    flat = F.pad(relative, (0, length)).flatten(2)[..., : length * (length + width - 1)]
    return flat.view(batch, heads, length, length + width - 1)[..., window : window + length]


def _diagonals(square: Tensor, window: int) -> Tensor:
    """Inverse reading of `_band`: (B, H, L, L) → (B, H, L, W), entry w of row i is column i + w - window."""
    batch, heads, length, _ = square.shape
    width = 2 * window + 1
    flat = F.pad(F.pad(square, (window, window)).flatten(2), (0, length))
    return flat.view(batch, heads, length, length + width)[..., :width]


def _distances(length: int, device: torch.device) -> Tensor:
    positions = torch.arange(length, device=device, dtype=torch.float32)
    return (positions.unsqueeze(0) - positions.unsqueeze(1)).abs()
