"""A prior that varies within a phone: phone-level statistics refined per frame, given the durations.

Without it, only the flow models change within a phone, and a flow learns that slowly from little speech. Source: the
frame prior network of VISinger (Zhang et al. 2022, section 2.1). Legend: B batch, P phones, T frames, C hidden
channels, Z latent channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.networks.decoders.convnext import ConvNeXtBlock

POSITION_FEATURES = 3


class FramePrior(nn.Module):
    """ConvNeXt blocks over expanded text states and the position inside each phone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, n_layers = config.frame_prior_channels, config.frame_prior_layers
        self.embed = nn.Linear(config.hidden_channels + POSITION_FEATURES, channels)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, 3 * channels, initial_scale=1 / n_layers) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.projection = nn.Linear(channels, 2 * config.inter_channels)
        self.dropout = nn.Dropout(config.dropout)
        # The phone-level prior is unchanged at first.
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(
        self, text_hidden: Tensor, durations: Tensor, path: Tensor, frame_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return changes of the prior's mean and log standard deviation, (B, Z, T) each.

        Text states (B, C, P), durations (B, P), alignment path (B, T, P), frame mask (B, 1, T).
        """
        mask = frame_mask.transpose(1, 2)  # (B, 1, T) → (B, T, 1)
        expanded = path @ text_hidden.transpose(1, 2)
        hidden = self.embed(torch.cat([expanded, _positions(durations, path)], dim=2)) * mask
        for block in self.blocks:
            hidden = self.dropout(block(hidden)) * mask
        mean, log_std = (self.projection(self.norm(hidden)) * mask).transpose(1, 2).chunk(2, dim=1)
        return mean, log_std


def _positions(durations: Tensor, path: Tensor) -> Tensor:
    """Return each frame's position within its phone and the phone's log length, (B, T, 3).

    Durations (B, P), path (B, T, P).
    """
    lengths = durations.to(path.dtype).unsqueeze(2)
    starts = lengths.cumsum(1) - lengths
    frame_length = (path @ lengths).clamp_min(1.0)
    frame = torch.arange(path.shape[1], device=path.device, dtype=path.dtype).view(1, -1, 1)
    position = (frame + 0.5 - path @ starts) / frame_length
    return torch.cat([position, (1 - position), frame_length.log()], dim=2)
