"""Masks, alignment paths, segments and gates shared by the networks.

Legend: B batch, P phones, T frames, C channels, L any length. Masks are 1 at real positions, 0 at padding.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F


def sequence_mask(lengths: Tensor, max_length: int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a mask (B, L) of the first `lengths` (B,) positions; L is `max_length` or the longest length."""
    size = int(lengths.max()) if max_length is None else max_length
    return (torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)).to(dtype)


def durations_to_path(durations: Tensor, n_frames: int) -> Tensor:
    """Return the hard alignment (B, T, P) in which phone p covers `durations[:, p]` (B, P) consecutive frames.

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


def random_segment_starts(lengths: Tensor, size: int, uniform: Tensor) -> Tensor:
    """Return a start (B,) per item such that `size` positions fit into `lengths` (B,), or 0 if they do not fit.

    `uniform` (B,) in [0, 1) selects among the possible starts.
    """
    choices = (lengths - size + 1).clamp_min(1)
    return (uniform * choices).long()


def fused_gate(inputs: Tensor, condition: Tensor | None = None) -> Tensor:
    """Return the gated activation tanh(a)·sigmoid(b) of the halves of `inputs + condition`: (B, 2C, L) → (B, C, L).

    Source: van den Oord et al. 2016, WaveNet, equation 2.
    """
    filtered, gate = (inputs if condition is None else inputs + condition).chunk(2, dim=1)
    return filtered.tanh() * gate.sigmoid()


def clip_gradients_by_value(parameters: Iterable[Tensor], limit: float | None) -> float:
    """Clamp every gradient to ±limit in place (None: no clamping) and return their L2 norm before it."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    if limit is not None:
        for gradient in gradients:
            gradient.clamp_(-limit, limit)
    return float(norm)
