"""Dropout with masks from 16 random bits per element, at half the CPU cost of torch's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

N_LEVELS = 2**16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with its probability rounded to a multiple of 2⁻¹⁶ on the CPU; uses torch's generator."""

    def forward(self, input: Tensor) -> Tensor:
        n_dropped = round(self.p * N_LEVELS)  # out of N_LEVELS
        if not self.training or n_dropped == 0:
            return input
        if input.device.type != "cpu" or input.dtype != torch.float32 or n_dropped == N_LEVELS:
            return super().forward(input)
        words = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)  # four levels each
        levels = words.view(torch.int16)[: input.numel()].view(input.shape)
        return input * ((levels >= n_dropped - N_LEVELS // 2) * (N_LEVELS / (N_LEVELS - n_dropped)))
