"""Decoder at frame rate: ConvNeXt blocks, then one inverse STFT per frame.

On a CPU it costs about a hundredth of upsampling step by step. Legend: B batch, T frames, C channels, G speaker
channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import ModelConfig
from model.networks.decoders.convnext import FrameStack

# Far above any real spectrum of a waveform in -1..1; keeps outliers from overflowing.
MAX_MAGNITUDE = 1e2


class IstftDecoder(FrameStack):
    """Blocks at frame rate and an inverse STFT of a predicted magnitude and phase (Siuzdak 2023, Vocos, section 3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(
            config,
            config.inter_channels,
            channels=config.istft_channels,
            filter_channels=config.istft_filter_channels,
            n_layers=config.istft_layers,
        )
        self.head = IstftHead(config.istft_channels, n_fft=config.istft_n_fft, hop_samples=config.hop_samples)

    def forward(self, latent: Tensor, speaker_embedding: Tensor | None = None) -> Tensor:
        """Decode a latent (B, C, T) with speaker embedding (B, G, 1) or None → waveform (B, 1, T * hop_samples)."""
        waveform: Tensor = self.head(self.frames(latent, speaker_embedding))
        return waveform.unsqueeze(1)


class IstftHead(nn.Module):
    """Frames (B, T, C) → waveform (B, T * hop_samples) by one inverse transform per frame.

    `ModelConfig` requires at least twofold overlap: the window could not be divided out at its ends otherwise.
    """

    def __init__(self, channels: int, *, n_fft: int, hop_samples: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_samples = hop_samples
        self.projection = nn.Linear(channels, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.window: Tensor

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):  # half precision is too coarse for a phase
            log_magnitude, phase = self.projection(hidden.float()).chunk(2, dim=-1)
        magnitude = torch.exp(torch.clamp(log_magnitude, max=math.log(MAX_MAGNITUDE)))
        return inverse_stft(torch.polar(magnitude, phase), self.window, self.hop_samples)


def inverse_stft(spectrum: Tensor, window: Tensor, hop_samples: int) -> Tensor:
    """Overlap-add the frames of a spectrum (B, T, n_fft / 2 + 1), windowed by (n_fft,) → (B, T * hop_samples).

    Frame t is centred on sample (t + 1/2) · hop.
    """
    n_fft = len(window)
    frames = torch.fft.irfft(spectrum, n=n_fft) * window
    envelope = _overlap_add(window.square().expand(1, spectrum.shape[1], -1), hop_samples)
    return _overlap_add(frames, hop_samples) / envelope


def _overlap_add(frames: Tensor, hop_samples: int) -> Tensor:
    """Add overlapping frames (B, T, n_fft) → (B, T * hop_samples), cut by half the overlap at each end."""
    batch, n_frames, n_fft = frames.shape
    pieces = -(-n_fft // hop_samples)
    missing = pieces * hop_samples - n_fft
    chunks = functional.pad(frames, (0, missing)).view(batch, n_frames, pieces, hop_samples)
    total = frames.new_zeros(batch, n_frames + pieces - 1, hop_samples)
    for piece in range(pieces):  # shifted sums: torch's fold is slower, forward and backward
        total[:, piece : piece + n_frames] += chunks[:, :, piece]
    start = (n_fft - hop_samples) // 2
    return total.flatten(1)[:, start : start + n_frames * hop_samples]
