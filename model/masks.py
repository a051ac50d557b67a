"""Small tensor helpers shared by the networks: masks, alignments, segments, timing signals.

Legend: B batch, P phones, T frames, C channels, L any length. Masks are 1 at real positions, 0 at padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

Item = TypeVar("Item")


def sequence_mask(
    lengths: Tensor, max_length: int | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Mask (B, L) of the first `lengths` (B,) positions; L is `max_length` or the longest length."""
    size = int(lengths.max()) if max_length is None else max_length
    return (torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)).to(dtype)


def subsequent_mask(length: int, device: torch.device | None = None) -> Tensor:
    """Causal mask (1, 1, L, L): position i sees positions up to i."""
    return torch.ones(1, 1, length, length, device=device).tril()


def durations_to_path(durations: Tensor, n_frames: int) -> Tensor:
    """Hard alignment (B, T, P) in which phone p covers `durations[:, p]` (B, P) consecutive frames.

    Frames after the last duration belong to no phone (rows of zeros).
    """
    ends = durations.cumsum(-1).unsqueeze(1)
    frames = torch.arange(n_frames, device=durations.device, dtype=ends.dtype).view(1, -1, 1)
    return ((frames < ends) & (frames >= ends - durations.unsqueeze(1))).to(torch.get_default_dtype())


def slice_segments(sequence: Tensor, starts: Tensor, size: int) -> Tensor:
    """Cut `size` positions from each start: (B, C, L), (B,) → (B, C, size); zeros beyond the end."""
    offsets = starts.tolist()
    missing = max(offsets) + size - sequence.shape[-1]
    if missing > 0:
        sequence = F.pad(sequence, (0, missing))
    return torch.stack([item[:, start : start + size] for item, start in zip(sequence, offsets, strict=True)])


def random_segment_starts(lengths: Tensor, size: int, uniform: Tensor | None = None) -> Tensor:
    """Draw a start (B,) per item such that `size` positions fit into `lengths` (B,), or 0 if none do.

    `uniform` (B,) in [0, 1) decides; without it, it is drawn here.
    """
    choices = (lengths - size + 1).clamp_min(1)
    if uniform is None:
        uniform = torch.rand(lengths.shape[0], device=lengths.device)
    return (uniform * choices).long()


def timing_signal(
    length: int,
    channels: int,
    *,
    device: torch.device | None = None,
    min_timescale: float = 1.0,
    max_timescale: float = 1e4,
) -> Tensor:
    """Position code (1, C, L): sines, then cosines, of geometric timescales (Vaswani et al. 2017, 3.5)."""
    n_timescales = channels // 2
    step = math.log(max_timescale / min_timescale) / max(n_timescales - 1, 1)
    rates = min_timescale * torch.exp(-step * torch.arange(n_timescales, device=device, dtype=torch.float32))
    angles = rates.unsqueeze(1) * torch.arange(length, device=device, dtype=torch.float32)
    signal = torch.cat([angles.sin(), angles.cos()])
    return F.pad(signal, (0, 0, 0, channels % 2)).unsqueeze(0)


def add_timing_signal(sequence: Tensor) -> Tensor:
    """Add position codes to (B, C, L)."""
    return sequence + timing_signal(sequence.shape[2], sequence.shape[1], device=sequence.device).to(
        sequence.dtype
    )


def append_timing_signal(sequence: Tensor) -> Tensor:
    """Append position codes as channels: (B, C, L) → (B, 2C, L), for any batch size."""
    signal = timing_signal(sequence.shape[2], sequence.shape[1], device=sequence.device).to(sequence.dtype)
    return torch.cat([sequence, signal.expand_as(sequence)], dim=1)


def shift_right(sequence: Tensor) -> Tensor:
    """Delay (B, C, L) by one position; the first becomes zero."""
    return F.pad(sequence, (1, 0))[..., :-1]


def intersperse(items: Sequence[Item], separator: Item) -> list[Item]:
    """Put the separator before, between and after the items: n → 2n + 1."""
    spread = [separator] * (2 * len(items) + 1)
    spread[1::2] = items
    return spread


def fused_gate(inputs: Tensor, condition: Tensor | None = None) -> Tensor:
    """Gated activation tanh(a)·sigmoid(b) of the halves of `inputs + condition`: (B, 2C, L) → (B, C, L).

    Van den Oord et al. 2016, WaveNet, equation 2.
    """
    filtered, gate = (inputs if condition is None else inputs + condition).chunk(2, dim=1)
    return filtered.tanh() * gate.sigmoid()


def clip_gradients_by_value(parameters: Iterable[Tensor], limit: float | None) -> float:
    """Clamp every gradient to ±limit in place (None: leave them) and return their L2 norm from before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
    )
    if limit is not None:
        for gradient in gradients:
            gradient.clamp_(-limit, limit)
    return norm.item()
