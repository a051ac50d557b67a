"""A small network that aligns phones with log-mel frames, trained before the main model to give it durations.

Phones and frames meet in one space; the nearer two are, the likelier the frame belongs to the phone. It
learns from the sum over all monotonic alignments, and hard durations are read off the best of them.
Source: One TTS Alignment To Rule Them All (Badlani et al. 2021), RAD-TTS (Shih et al. 2021, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.alignment import search_durations
from model.masks import sequence_mask

# Log-mels of speech lie around -5 ± 2.3 (floor 1e-5, full scale about 2): this brings them near unit variance.
MEL_CENTRE = -5.0
MEL_SPREAD = 2.5

IMPOSSIBLE = -1e4  # log-probability of padded phones and of the blank: zero in float32, finite in gradients


@dataclass(frozen=True)
class AlignerInputs:
    """One padded batch: ids (B, P), log_mel (B, n_mels, T), lengths (B,), speaker_ids (B,) or None."""

    phone_ids: Tensor
    tone_ids: Tensor
    phone_lengths: Tensor
    log_mel: Tensor
    frame_lengths: Tensor
    speaker_ids: Tensor | None = None


class Aligner(nn.Module):
    """Phone embeddings with their neighbours as keys, log-mel frames as queries, softmax of squared distances."""

    def __init__(
        self,
        *,
        n_symbols: int,
        n_tones: int,
        mel_channels: int,
        channels: int = 80,
        n_speakers: int = 0,
        prior_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.prior_weight = prior_weight
        self.symbol_embedding = nn.Embedding(n_symbols, channels)
        self.tone_embedding = nn.Embedding(n_tones, channels)
        self.speaker_embedding = nn.Embedding(n_speakers, channels) if n_speakers else None
        self.key_convs = nn.Sequential(
            nn.Conv1d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.Conv1d(2 * channels, channels, 1)
        )
        self.query_convs = nn.Sequential(
            nn.Conv1d(mel_channels, 2 * channels, 3, padding=1), nn.ReLU(),
            nn.Conv1d(2 * channels, channels, 1), nn.ReLU(),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, inputs: AlignerInputs) -> Tensor:
        """Log-probability of each phone at each frame, (B, T, P), normalised over an utterance's phones."""
        phone_mask = sequence_mask(inputs.phone_lengths, inputs.phone_ids.shape[1])
        frame_mask = sequence_mask(inputs.frame_lengths, inputs.log_mel.shape[2])
        phones = self.symbol_embedding(inputs.phone_ids) + self.tone_embedding(inputs.tone_ids)
        phones = (phones * phone_mask.unsqueeze(-1)).transpose(1, 2)  # (B, P, C) → (B, C, P)
        frames = (inputs.log_mel - MEL_CENTRE) / MEL_SPREAD * frame_mask.unsqueeze(1)
        keys, queries = self.key_convs(phones), self.query_convs(frames)
        if self.speaker_embedding is not None:
            keys = keys + self.speaker_embedding(inputs.speaker_ids).unsqueeze(-1)
        scores = -_squared_distances(queries, keys) / queries.shape[1] ** 0.5
        scores = scores + self.prior_weight * diagonal_prior(inputs.frame_lengths, inputs.phone_lengths)
        return functional.log_softmax(scores.masked_fill(~phone_mask.unsqueeze(1), IMPOSSIBLE), dim=-1)
