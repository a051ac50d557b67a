"""The networks with the reference's order of work, at the same weights as ours.

Period discriminators take images (B, 1, S / period, period), real and generated clips in separate passes; attention has
an embedding for every possible distance; the alignment search fills a full table. Legend: B batch, H heads, L
positions, D channels of a head, P phones, S samples.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from model.config import DiscriminatorConfig, ModelConfig
from model.networks.attention import MASKED_SCORE, MultiHeadAttention
from model.networks.dropout import Dropout
from model.networks.masks import sequence_mask
from model.networks.random_draws import RandomDraws
from model.networks.text_encoder import TextEncoding
from model.synthesizer import Synthesizer, SynthesizerInputs
from model.training.discriminators import LEAKY_SLOPE, PERIOD_WIDTHS, DurationDiscriminator, ScaleDiscriminator

Verdict = tuple[Tensor, list[Tensor]]  # logits, feature maps


class PlainAttention(MultiHeadAttention):
    """Relative attention over all 2 L - 1 distances: the embeddings are padded with zeros to that many."""

    def forward(self, queries: Tensor, keys: Tensor, blocked: Tensor | None = None) -> Tensor:
        query, key, value = self._heads(self.query, queries), self._heads(self.key, keys), self._heads(self.value, keys)
        batch, n_heads, length, n_channels = query.shape
        scaled = query / n_channels**0.5
        scores = scaled @ key.transpose(2, 3)
        scores = scores + _by_position(scaled @ self._distances(self.relative_keys, length).transpose(1, 2))
        if blocked is not None:
            scores = scores.masked_fill(blocked, MASKED_SCORE)
        shares = self.dropout(scores.softmax(dim=-1))
        attended = shares @ value + _by_distance(shares) @ self._distances(self.relative_values, length)
        outputs: Tensor = self.output(attended.transpose(2, 3).contiguous().view(batch, n_heads * n_channels, length))
        return outputs

    def _heads(self, projection: nn.Conv1d, inputs: Tensor) -> Tensor:
        batch, _, length = inputs.shape
        projected: Tensor = projection(inputs)
        return projected.view(batch, self.n_heads, -1, length).transpose(2, 3)

    def _distances(self, embeddings: Tensor, length: int) -> Tensor:
        """Embeddings (H, 2 · window + 1, D) → (H, 2 L - 1, D), zero beyond the window."""
        window = embeddings.shape[1] // 2
        missing = max(length - window - 1, 0)
        first = max(window + 1 - length, 0)
        return functional.pad(embeddings, (0, 0, missing, missing))[:, first : first + 2 * length - 1]


def _by_position(relative: Tensor) -> Tensor:
    """Scores per distance (B, H, L, 2 L - 1) → per position (B, H, L, L)."""
    batch, n_heads, length, _ = relative.shape
    flat = functional.pad(functional.pad(relative, (0, 1)).flatten(2), (0, length - 1))
    return flat.view(batch, n_heads, length + 1, 2 * length - 1)[:, :, :length, length - 1 :]


def _by_distance(square: Tensor) -> Tensor:
    """Shares per position (B, H, L, L) → per distance (B, H, L, 2 L - 1)."""
    batch, n_heads, length, _ = square.shape
    flat = functional.pad(functional.pad(square, (0, length - 1)).flatten(2), (length, 0))
    return flat.view(batch, n_heads, length, 2 * length)[..., 1:]


def search_full_table(scores: Tensor, mask: Tensor) -> Tensor:
    """Return paths (B, T, P) of zeros and ones, found the usual way: a value for every cell, then back through the
    values.
    """
    values = scores.numpy().astype(np.float32)
    paths = np.zeros(values.shape, dtype=np.int32)
    n_frames = mask.sum(1)[:, 0].numpy().astype(np.int32)
    n_phones = mask.sum(2)[:, 0].numpy().astype(np.int32)
    _fill_paths(paths, values, n_frames, n_phones)
    return torch.from_numpy(paths).to(scores.dtype)


@numba.njit(nogil=True)
def _fill_paths(paths: np.ndarray, values: np.ndarray, n_frames: np.ndarray, n_phones: np.ndarray) -> None:
    worst = -1e9
    for item in range(paths.shape[0]):
        path, value = paths[item], values[item]
        frames, phones = n_frames[item], n_phones[item]
        for frame in range(frames):
            # Only phones from which the end can still be reached, and which the start can have reached.
            for phone in range(max(0, phones + frame - frames), min(phones, frame + 1)):
                stay = worst if phone == frame else value[frame - 1, phone]
                if phone == 0:
                    move = 0.0 if frame == 0 else worst
                else:
                    move = value[frame - 1, phone - 1]
                value[frame, phone] += max(move, stay)
        phone = phones - 1
        for frame in range(frames - 1, -1, -1):
            path[frame, phone] = 1
            if phone != 0 and (phone == frame or value[frame - 1, phone] < value[frame - 1, phone - 1]):
                phone -= 1


class PlainSynthesizer(Synthesizer):
    """The generator with the attention above, and an alignment from four terms and a full table of values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        for module in self.modules():
            if type(module) is MultiHeadAttention:
                module.__class__ = PlainAttention  # the same weights, other work
            elif isinstance(module, Dropout):
                object.__setattr__(module, "__class__", nn.Dropout)

    @torch.no_grad()
    def _align(
        self, latent_prior: Tensor, text: TextEncoding, batch: SynthesizerInputs, noise: float, draws: RandomDraws
    ) -> Tensor:
        frame_lengths, phone_lengths = batch.spectrogram_lengths, batch.phone_lengths
        precision = torch.exp(-2 * text.prior_log_std)
        scores = torch.sum(-0.5 * math.log(2 * math.pi) - text.prior_log_std, [1], keepdim=True)
        scores = scores + (-0.5 * latent_prior**2).transpose(1, 2) @ precision
        scores = scores + latent_prior.transpose(1, 2) @ (text.prior_mean * precision)
        scores = scores + torch.sum(-0.5 * text.prior_mean**2 * precision, [1], keepdim=True)
        if self.config.noise_scaled and noise > 0:
            scores = scores + draws.alignment_noise(scores, frame_lengths, phone_lengths, noise)
        frames, phones = sequence_mask(frame_lengths, scores.shape[1]), sequence_mask(phone_lengths, scores.shape[2])
        return search_full_table(scores, frames.unsqueeze(2) * phones.unsqueeze(1)).sum(1).long()


class PlainPeriodDiscriminator(nn.Module):
    """Convolutions of kernel (K, 1) over images (B, 1, S / period, period)."""

    def __init__(self, config: DiscriminatorConfig, period: int) -> None:
        super().__init__()
        self.period = period
        widths = [min(config.channels * multiple, config.max_channels) for multiple in PERIOD_WIDTHS]
        sizes = zip([1, *widths[:-1]], widths, (3, 3, 3, 3, 1), strict=True)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(n_in, n_out, (5, 1), (stride, 1), (2, 0))) for n_in, n_out, stride in sizes
        )
        self.conv_post = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, waveform: Tensor) -> Verdict:
        waveform = functional.pad(waveform, (0, -waveform.shape[2] % self.period), "reflect")
        hidden = waveform.view(len(waveform), 1, -1, self.period)
        maps = []
        for conv in self.convs:
            hidden = functional.leaky_relu(conv(hidden), LEAKY_SLOPE)
            maps.append(hidden)
        logits = self.conv_post(hidden)
        return logits.flatten(1), [*maps, logits]


class PlainDiscriminator(nn.Module):
    """All discriminators, one pass each for the real and for the generated clips."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        scale: list[nn.Module] = [ScaleDiscriminator(config)] if config.use_scale else []
        self.discriminators = nn.ModuleList(
            [*scale, *(PlainPeriodDiscriminator(config, period) for period in config.periods)]
        )

    def forward(self, real: Tensor, generated: Tensor) -> tuple[list[Verdict], list[Verdict]]:
        verdicts = [(self._judge(network, real), self._judge(network, generated)) for network in self.discriminators]
        return [first for first, _ in verdicts], [second for _, second in verdicts]

    @staticmethod
    def _judge(network: nn.Module, clips: Tensor) -> Verdict:
        if isinstance(network, ScaleDiscriminator):
            output = network(clips)
            return output.logits, output.feature_maps
        verdict: Verdict = network(clips)
        return verdict


class PlainDurationDiscriminator(DurationDiscriminator):
    """The text encoded once, true and predicted durations judged in passes of their own."""

    def forward(
        self,
        encoded_phones: Tensor,
        phone_mask: Tensor,
        real_log_durations: Tensor,
        generated_log_durations: Tensor,
        speaker_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        hidden = encoded_phones.detach()
        if self.cond is not None and speaker_embedding is not None:
            hidden = hidden + self.cond(speaker_embedding.detach())
        hidden = self._layer(hidden * phone_mask, self.conv_1, self.norm_1)
        hidden = self._layer(hidden * phone_mask, self.conv_2, self.norm_2)
        return self._judge(hidden, phone_mask, real_log_durations), self._judge(
            hidden, phone_mask, generated_log_durations
        )

    def _judge(self, hidden: Tensor, mask: Tensor, log_durations: Tensor) -> Tensor:
        joint = torch.cat((hidden, self.dur_proj(log_durations)), dim=1)
        joint = self._layer(joint * mask, self.pre_out_conv_1, self.pre_out_norm_1)
        joint = self._layer(joint * mask, self.pre_out_conv_2, self.pre_out_norm_2)
        verdict: Tensor = self.output_layer((joint * mask).transpose(1, 2))
        return verdict
