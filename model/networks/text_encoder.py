"""Transformer encoder over (B, C, L), and the text encoder that computes the prior.

Legend: B batch, P phones, L any length, C channels. Masks are (B, 1, L).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from model.config import ModelConfig
from model.networks.attention import ChannelNorm, FeedForward, MultiHeadAttention
from model.networks.masks import sequence_mask


@dataclass(frozen=True, kw_only=True)
class TransformerShape:
    """Sizes of a stack of transformer layers; `window` None means no relative positions."""

    hidden_channels: int
    filter_channels: int
    n_heads: int
    n_layers: int
    kernel_size: int
    dropout: float = 0.0
    window: int | None = 4


class TransformerEncoder(nn.Module):
    """Self-attention layers with post-normalisation; a speaker vector may be added before one of them."""

    def __init__(self, shape: TransformerShape, *, speaker_channels: int = 0, speaker_layer_index: int = -1) -> None:
        super().__init__()
        channels = shape.hidden_channels
        self.speaker_layer_index = speaker_layer_index if speaker_channels else -1
        self.dropout = nn.Dropout(shape.dropout)
        layers = range(shape.n_layers)
        self.attentions = nn.ModuleList(
            MultiHeadAttention(channels, channels, shape.n_heads, window=shape.window, dropout=shape.dropout)
            for _ in layers
        )
        self.attention_norms = nn.ModuleList(ChannelNorm(channels) for _ in layers)
        self.feed_forwards = nn.ModuleList(
            FeedForward(
                channels=channels,
                out_channels=channels,
                filter_channels=shape.filter_channels,
                kernel_size=shape.kernel_size,
                dropout=shape.dropout,
            )
            for _ in layers
        )
        self.feed_forward_norms = nn.ModuleList(ChannelNorm(channels) for _ in layers)
        if self.speaker_layer_index >= 0:
            self.speaker_projection = nn.Linear(speaker_channels, channels)

    def forward(self, inputs: Tensor, mask: Tensor, speaker_embedding: Tensor | None = None) -> Tensor:
        """Encode (B, C, L) given mask (B, 1, L) and speaker embedding (B, G, 1) or None → (B, C, L)."""
        blocked = (mask.unsqueeze(2) * mask.unsqueeze(3)) == 0  # (B, 1, L, L)
        hidden = inputs * mask
        layers = zip(self.attentions, self.attention_norms, self.feed_forwards, self.feed_forward_norms, strict=True)
        for index, (attention, attention_norm, feed_forward, feed_forward_norm) in enumerate(layers):
            if index == self.speaker_layer_index and speaker_embedding is not None:
                hidden = (hidden + self.speaker_projection(speaker_embedding.squeeze(2)).unsqueeze(2)) * mask
            hidden = attention_norm(hidden + self.dropout(attention(hidden, hidden, blocked)))
            hidden = feed_forward_norm(hidden + self.dropout(feed_forward(hidden, mask)))
        return hidden * mask


@dataclass(frozen=True)
class TextEncoding:
    """Hidden states (B, C, P), prior mean and log standard deviation (B, Z, P), phone mask (B, 1, P)."""

    hidden: Tensor
    prior_mean: Tensor
    prior_log_std: Tensor
    phone_mask: Tensor


class TextEncoder(nn.Module):
    """Phones, tones, languages and word-piece features → hidden states and the prior of each phone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden_channels = config.hidden_channels
        self.scale = math.sqrt(hidden_channels)
        self.symbol_embedding = nn.Embedding(config.n_symbols, hidden_channels)
        self.tone_embedding = nn.Embedding(config.n_tones, hidden_channels)
        self.language_embedding = nn.Embedding(config.n_languages, hidden_channels)
        for embedding in (self.symbol_embedding, self.tone_embedding, self.language_embedding):
            nn.init.normal_(embedding.weight, 0.0, hidden_channels**-0.5)
        self.bert_channels = dict(config.bert_channels)
        self.bert_projections = nn.ModuleDict(
            {language: _zero_projection(size, hidden_channels) for language, size in config.bert_channels.items()}
        )
        shape = TransformerShape(
            hidden_channels=hidden_channels,
            filter_channels=config.filter_channels,
            n_heads=config.n_heads,
            n_layers=config.n_layers,
            kernel_size=config.kernel_size,
            dropout=config.dropout,
            window=config.attention_window,
        )
        self.encoder = TransformerEncoder(
            shape,
            speaker_channels=config.effective_speaker_channels,
            speaker_layer_index=config.speaker_layer_index,
        )
        self.projection = nn.Conv1d(hidden_channels, 2 * config.inter_channels, 1)

    def forward(
        self,
        phone_ids: Tensor,
        phone_lengths: Tensor,
        tone_ids: Tensor,
        language_ids: Tensor,
        bert: Mapping[str, Tensor],
        speaker_embedding: Tensor | None = None,
    ) -> TextEncoding:
        """Encode ids (B, P) and `bert`: language code → features (B, C, P).

        A language missing from `bert` gets zero features; one without a projection raises ValueError.
        """
        if unknown := sorted(set(bert) - set(self.bert_projections)):
            raise ValueError(
                f"no projection for BERT features of {', '.join(unknown)}; the model has "
                f"{', '.join(self.bert_projections) or 'none'}"
            )
        embedded = self.symbol_embedding(phone_ids) + self.tone_embedding(tone_ids)
        embedded = (embedded + self.language_embedding(language_ids)).transpose(1, 2)  # (B, P, C) → (B, C, P)
        for language, projection in self.bert_projections.items():
            # Missing features are one column of zeros, which broadcasts over the phones.
            features = bert.get(language)
            if features is None:
                features = embedded.new_zeros(1, self.bert_channels[language], 1)
            embedded = embedded + projection(features)
        mask = sequence_mask(phone_lengths, phone_ids.shape[1], embedded.dtype).unsqueeze(1)
        hidden = self.encoder(embedded * self.scale, mask, speaker_embedding)
        prior_mean, prior_log_std = (self.projection(hidden) * mask).chunk(2, dim=1)
        return TextEncoding(hidden, prior_mean, prior_log_std, mask)


def _zero_projection(in_channels: int, out_channels: int) -> nn.Conv1d:
    """Return a projection initialised to zero.

    With torch's initialisation, projected features of hundreds of channels are larger than the phone embedding (three
    times with MiniLM's) and mask it; from zero they grow as far as they lower the loss.
    """
    projection = nn.Conv1d(in_channels, out_channels, 1)
    nn.init.zeros_(projection.weight)
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)
    return projection
