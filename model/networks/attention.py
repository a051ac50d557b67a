"""Attention with relative positions, feed-forward blocks and channel normalisation on (B, C, L) tensors.

Legend: B batch, C channels, H heads, L queries, M keys, D = C / H, W = 2·window + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.dropout import Dropout

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


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention: queries (B, C, L) over keys (B, C, M) → (B, C_out, L).

    Source: Vaswani et al. 2017, section 3.2. `window`: relative positions up to this distance have embeddings, shared
    by all heads (Shaw et al. 2018, section 3.2); None for no relative positions.
    """

    def __init__(
        self, channels: int, out_channels: int, n_heads: int, *, window: int | None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if channels % n_heads:
            raise ValueError(f"{n_heads} heads do not divide {channels} channels")
        self.n_heads = n_heads
        self.window = window
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(channels, channels, 1)
        self.value = nn.Conv1d(channels, channels, 1)
        self.output = nn.Conv1d(channels, out_channels, 1)
        self.dropout = Dropout(dropout)
        for projection in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(projection.weight)
        if window is not None:
            head_channels = channels // n_heads
            shape = (1, 2 * window + 1, head_channels)
            self.relative_keys = nn.Parameter(torch.randn(shape) * head_channels**-0.5)
            self.relative_values = nn.Parameter(torch.randn(shape) * head_channels**-0.5)

    def forward(self, queries: Tensor, keys: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Attend to `keys`; `blocked`, broadcastable to (B, H, L, M), is True where a key is masked out."""
        value = self._heads(self.value, keys)
        probabilities = self.dropout(self.probabilities(queries, keys, blocked))
        attended = probabilities @ value  # (B, H, L, D)
        if self.window is not None:
            attended = attended + _diagonals(probabilities, self.window) @ self.relative_values
        merged = attended.transpose(1, 2).flatten(2)  # (B, H, L, D) → (B, L, C)
        projected: Tensor = _project(self.output, merged)
        return projected.transpose(1, 2)

    def probabilities(self, queries: Tensor, keys: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Return attention weights (B, H, L, M), rows summing to 1; ValueError for relative cross-attention."""
        scores = self._scores(queries, keys)
        if blocked is not None:
            scores = scores.masked_fill(blocked, MASKED_SCORE)
        return scores.softmax(dim=-1)

    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        query = self._heads(self.query, queries) * float((queries.shape[1] // self.n_heads) ** -0.5)
        scores = query @ self._heads(self.key, keys).transpose(2, 3)
        if self.window is None:
            return scores
        length, n_keys = scores.shape[-2:]
        if length != n_keys:
            raise ValueError(f"relative attention needs as many keys as queries, found {n_keys} and {length}")
        return scores + _band(query @ self.relative_keys.transpose(1, 2))

    def _heads(self, projection: nn.Conv1d, inputs: Tensor) -> Tensor:
        """Project (B, C, L) and split into heads (B, H, L, D)."""
        projected: Tensor = _project(projection, inputs.transpose(1, 2)).unflatten(2, (self.n_heads, -1))
        return projected.transpose(1, 2)  # (B, L, H, D) → (B, H, L, D)


class FeedForward(nn.Module):
    """Two convolutions with a rectifier between: (B, C, L) → (B, C_out, L)."""

    def __init__(
        self,
        *,
        channels: int,
        out_channels: int,
        filter_channels: int,
        kernel_size: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.padding = ((kernel_size - 1) // 2, kernel_size // 2)
        symmetric = self.padding[0] if self.padding[0] == self.padding[1] else 0
        self.expand = nn.Conv1d(channels, filter_channels, kernel_size, padding=symmetric)
        self.contract = nn.Conv1d(filter_channels, out_channels, kernel_size, padding=symmetric)
        self.dropout = Dropout(dropout)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Apply to (B, C, L) with mask (B, 1, L); padding is ignored in the input and zero in the output."""
        hidden = self._convolve(self.expand, inputs * mask).relu()
        return self._convolve(self.contract, self.dropout(hidden) * mask) * mask

    def _convolve(self, convolution: nn.Conv1d, inputs: Tensor) -> Tensor:
        if self.padding[0] != self.padding[1]:
            inputs = F.pad(inputs, self.padding)
        outputs: Tensor = convolution(inputs)
        return outputs


def _project(projection: nn.Conv1d, inputs: Tensor) -> Tensor:
    """Apply a convolution of kernel 1 to (B, L, C) → (B, L, C_out): `ChannelNorm` leaves channels innermost."""
    return F.linear(inputs, projection.weight.squeeze(2), projection.bias)


def _band(relative: Tensor) -> Tensor:
    """Spread per-distance scores over a square: (B, H, L, W) → (B, H, L, L), zero outside the band.

    Rows are padded to L + W and viewed as rows of L + W - 1, which shifts each row one column further to the right:
    entry w of row i lands in column i + w of a square with `window` extra columns on both sides.
    """
    batch, heads, length, width = relative.shape
    window = width // 2
    flat = F.pad(relative, (0, length)).flatten(2)[..., : length * (length + width - 1)]
    return flat.view(batch, heads, length, length + width - 1)[..., window : window + length]


def _diagonals(square: Tensor, window: int) -> Tensor:
    """Invert `_band`: (B, H, L, L) → (B, H, L, W), where entry w of row i is column i + w - window."""
    batch, heads, length, _ = square.shape
    width = 2 * window + 1
    flat = F.pad(F.pad(square, (window, window)).flatten(2), (0, length))
    return flat.view(batch, heads, length, length + width)[..., :width]
