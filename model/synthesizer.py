"""The generator: text and spectrogram to waveform in training, text to waveform in inference.

Legend: B batch, P phones, T frames, S samples, C hidden channels, Z latent channels, G speaker channels.
Kim et al. 2021 (VITS) and Kong et al. 2023 (VITS2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import PITCH_ROWS, ModelConfig
from model.networks.alignment_search import search_durations
from model.networks.decoders.build import build_decoder
from model.networks.decoders.source_filter import SourceFilterDecoder
from model.networks.duration import DurationPredictor, StochasticDurationPredictor
from model.networks.flows import CouplingFlow
from model.networks.frame_prior import FramePrior
from model.networks.masks import durations_to_path, random_segment_starts, sequence_mask, slice_segments
from model.networks.posterior_encoder import PosteriorEncoder, ReferenceEncoder
from model.networks.random_draws import RandomDraws
from model.networks.text_encoder import TextEncoder, TextEncoding

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
DURATION_KERNEL_SIZE = 3
UNVOICED_PITCH_WEIGHT = 0.1  # there the pitch is interpolated


@dataclass(frozen=True, kw_only=True)
class SynthesizerInputs:
    """One training batch; ids, durations and lengths are integers.

    `bert` maps language codes to features (B, channels, P); `durations` (B, P) in frames replace the alignment search;
    `speaker_ids` (B,) is read only by models with a speaker table.
    """

    phone_ids: Tensor
    phone_lengths: Tensor
    tone_ids: Tensor
    language_ids: Tensor
    bert: Mapping[str, Tensor]
    spectrogram: Tensor
    spectrogram_lengths: Tensor
    speaker_ids: Tensor | None = None
    durations: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class SynthesizerOutput:
    """Inputs of the generator's losses.

    waveform_segment (B, 1, segment · hop), None if decoding was skipped; segment_starts (B,) in frames;
    durations (B, P) in frames; latent, latent_prior, prior_* and posterior_* (B, Z, T), the prior expanded to
    frames; frame_mask (B, 1, T); phone_mask, log_durations and log_durations_target (B, 1, P); text_hidden
    (B, C, P); duration_loss (B,) of all duration predictors, summed over an item's phones and divided by the
    batch's; speaker_embedding (B, G, 1) or None; pitch_loss of a source-filter decoder's estimate, a scalar, or None.
    """

    waveform_segment: Tensor | None
    segment_starts: Tensor
    durations: Tensor
    latent: Tensor
    latent_prior: Tensor
    prior_mean: Tensor
    prior_log_std: Tensor
    posterior_mean: Tensor
    posterior_log_std: Tensor
    frame_mask: Tensor
    phone_mask: Tensor
    text_hidden: Tensor
    log_durations: Tensor
    log_durations_target: Tensor
    duration_loss: Tensor
    speaker_embedding: Tensor | None
    pitch_loss: Tensor | None


class DecodedSegments(NamedTuple):
    """waveform (B, 1, segment · hop) and starts (B,) in frames."""

    waveform: Tensor
    starts: Tensor


@dataclass(frozen=True, kw_only=True)
class InferenceOutput:
    """waveform (B, 1, S), durations (B, P) in frames, frame_mask (B, 1, T), latent (B, Z, T)."""

    waveform: Tensor
    durations: Tensor
    frame_mask: Tensor
    latent: Tensor


class Synthesizer(nn.Module):
    """Conditional variational autoencoder with a flow prior, a duration model and a waveform decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        speaker_channels = config.effective_speaker_channels
        self.text_encoder = TextEncoder(config)
        self.posterior_encoder = PosteriorEncoder(config)
        self.flow = CouplingFlow(config)
        self.decoder = build_decoder(config)
        if config.frame_prior_layers:
            self.frame_prior = FramePrior(config)
        self.duration_predictor = DurationPredictor(
            channels=config.hidden_channels,
            filter_channels=config.duration_channels,
            kernel_size=DURATION_KERNEL_SIZE,
            dropout=config.duration_dropout,
            speaker_channels=speaker_channels,
        )
        if config.use_sdp:
            self.stochastic_duration_predictor = StochasticDurationPredictor(
                channels=config.hidden_channels,
                hidden_channels=config.sdp_channels,
                kernel_size=DURATION_KERNEL_SIZE,
                dropout=config.duration_dropout,
                n_couplings=config.sdp_flows,
                speaker_channels=speaker_channels,
            )
        if config.n_speakers > 0:
            self.speaker_embedding = nn.Embedding(config.n_speakers, config.speaker_channels)
        elif config.use_reference_encoder:
            self.reference_encoder = ReferenceEncoder(config.spectrogram_channels, config.speaker_channels)

    def forward(
        self,
        batch: SynthesizerInputs,
        *,
        alignment_noise: float = 0.0,
        decode: bool = True,
        draws: RandomDraws | None = None,
    ) -> SynthesizerOutput:
        """Encode both sides, align them and decode one random segment per utterance.

        alignment_noise scales the noise of the search, in standard deviations of its scores; with `batch.durations`
        there is no search. Order of `draws` (torch's global generator if None): posterior, alignment, stochastic
        durations, segment starts, noise of a source-filter decoder. Dropout always uses the global generator.
        """
        draws = draws or RandomDraws()
        speaker = self.speaker_vector(batch.speaker_ids, batch.spectrogram)
        text = self.text_encoder(
            batch.phone_ids, batch.phone_lengths, batch.tone_ids, batch.language_ids, batch.bert, speaker
        )
        posterior = self.posterior_encoder(batch.spectrogram, batch.spectrogram_lengths, speaker, draws=draws)
        latent = posterior.latent
        latent_prior = self.flow(latent, posterior.frame_mask, speaker)
        durations = batch.durations
        if durations is None:
            durations = self._align(latent_prior, text, batch, alignment_noise, draws)
        path = durations_to_path(durations, batch.spectrogram.shape[2])
        prior_mean, prior_log_std = self._expand_prior(text, durations, path, posterior.frame_mask)
        log_durations, target, error, nll = self._duration_terms(text, durations, speaker, batch.phone_lengths, draws)
        lengths = batch.spectrogram_lengths
        starts = random_segment_starts(lengths, self.config.segment_frames, draws.uniform(lengths))
        segment = self._decode_segment(latent, starts, batch, speaker, draws) if decode else None
        return SynthesizerOutput(
            waveform_segment=segment,
            segment_starts=starts,
            durations=durations,
            latent=latent,
            latent_prior=latent_prior,
            prior_mean=prior_mean,
            prior_log_std=prior_log_std,
            posterior_mean=posterior.mean,
            posterior_log_std=posterior.log_std,
            frame_mask=posterior.frame_mask,
            phone_mask=text.phone_mask,
            text_hidden=text.hidden,
            log_durations=log_durations,
            log_durations_target=target,
            duration_loss=error if nll is None else nll + error,
            speaker_embedding=speaker,
            pitch_loss=self._pitch_loss(latent, batch, posterior.frame_mask, speaker),
        )

    def decode_segments(
        self,
        batch: SynthesizerInputs,
        *,
        prior_share: float = 0.0,
        prior_noise: float = 0.0,
        draws: RandomDraws | None = None,
    ) -> DecodedSegments:
        """Decode one random segment per utterance with gradients for the decoder only.

        Each utterance is decoded from its text's latent with probability `prior_share`, along the recording's
        durations and at `prior_noise` standard deviations of the prior, otherwise from the posterior's latent. Order
        of `draws`: posterior, segment starts, choice, prior, noise of a source-filter decoder.
        """
        draws = draws or RandomDraws()
        lengths = batch.spectrogram_lengths
        with torch.no_grad():
            speaker = self.speaker_vector(batch.speaker_ids, batch.spectrogram)
            posterior = self.posterior_encoder(batch.spectrogram, lengths, speaker, draws=draws)
            latent, mask = posterior.latent, posterior.frame_mask
            starts = random_segment_starts(lengths, self.config.segment_frames, draws.uniform(lengths))
            if prior_share:
                from_text = draws.uniform(lengths) < prior_share
                latent = torch.where(
                    from_text[:, None, None],
                    self._latent_of_text(batch, latent, mask, speaker, prior_noise, draws),
                    latent,
                )
        return DecodedSegments(self._decode_segment(latent, starts, batch, speaker, draws), starts)

    def _latent_of_text(
        self,
        batch: SynthesizerInputs,
        latent: Tensor,
        frame_mask: Tensor,
        speaker: Tensor | None,
        noise_scale: float,
        draws: RandomDraws,
    ) -> Tensor:
        """Return the latent (B, Z, T) of the text alone, along given durations or those aligned to `latent`."""
        text = self.text_encoder(
            batch.phone_ids, batch.phone_lengths, batch.tone_ids, batch.language_ids, batch.bert, speaker
        )
        durations = batch.durations
        if durations is None:
            durations = self._align(self.flow(latent, frame_mask, speaker), text, batch, 0.0, draws)
        mean, log_std = self._expand_prior(text, durations, durations_to_path(durations, latent.shape[2]), frame_mask)
        latent_prior = mean + draws.normal(mean, batch.spectrogram_lengths) * log_std.exp() * noise_scale
        sampled: Tensor = self.flow(latent_prior, frame_mask, speaker, reverse=True)
        return sampled * frame_mask

    @torch.no_grad()
    def infer(
        self,
        phone_ids: Tensor,
        phone_lengths: Tensor,
        tone_ids: Tensor,
        language_ids: Tensor,
        bert: Mapping[str, Tensor],
        speaker_ids: Tensor | None = None,
        *,
        noise_scale: float = 0.6,
        duration_noise_scale: float = 0.8,
        sdp_ratio: float = 0.2,
        length_scale: float = 1.0,
        max_frames: int | None = None,
        reference_spectrogram: Tensor | None = None,
    ) -> InferenceOutput:
        """Synthesise ids (B, P): sample durations, sample the prior, invert the flow, decode.

        sdp_ratio is the stochastic predictor's weight in log durations; frames beyond max_frames are cut off.
        A model with a reference encoder takes its speaker from `reference_spectrogram` (B, C, T).
        """
        speaker = self.speaker_vector(speaker_ids, reference_spectrogram)
        text = self.text_encoder(phone_ids, phone_lengths, tone_ids, language_ids, bert, speaker)
        log_durations = self._predict_log_durations(text, speaker, duration_noise_scale, sdp_ratio)
        durations = frames_of_phones(log_durations, text.phone_mask, length_scale)
        n_frames = durations.sum(1).clamp(1, max_frames)
        frame_mask = sequence_mask(n_frames, dtype=text.hidden.dtype).unsqueeze(1)
        noise = torch.randn(
            len(durations),
            self.config.inter_channels,
            frame_mask.shape[2],
            device=text.hidden.device,
            dtype=text.hidden.dtype,
        )
        return self.speak(text, durations, frame_mask, speaker, noise * noise_scale)

    def speak(
        self,
        text: TextEncoding,
        durations: Tensor,
        frame_mask: Tensor,
        speaker: Tensor | None,
        latent_noise: Tensor,
        source_noise: Tensor | None = None,
    ) -> InferenceOutput:
        """Synthesise an encoded text along durations (B, P) in frames, limited to the frames of frame_mask (B, 1, T).

        latent_noise (B, Z, T) is in standard deviations of the prior; source_noise (B, 1, S), standard normal, is the
        noise that a source-filter decoder shapes, drawn by the decoder if None.
        """
        path = durations_to_path(durations, frame_mask.shape[2])
        prior_mean, prior_log_std = self._expand_prior(text, durations, path, frame_mask)
        latent_prior = prior_mean + latent_noise * prior_log_std.exp()
        latent = self.flow(latent_prior, frame_mask, speaker, reverse=True)
        if isinstance(self.decoder, SourceFilterDecoder):
            waveform = self.decoder(latent * frame_mask, speaker, noise=source_noise)
        else:
            waveform = self.decoder(latent * frame_mask, speaker)
        return InferenceOutput(waveform=waveform, durations=durations, frame_mask=frame_mask, latent=latent)

    @torch.no_grad()
    def reconstruct(self, spectrogram: Tensor, lengths: Tensor, speaker_ids: Tensor | None = None) -> Tensor:
        """Resynthesise recordings: posterior mean of (B, C, T) through the decoder → waveform (B, 1, S)."""
        speaker = self.speaker_vector(speaker_ids, spectrogram)
        posterior = self.posterior_encoder(spectrogram, lengths, speaker, sample=False)
        waveform: Tensor = self.decoder(posterior.mean * posterior.frame_mask, speaker)
        return waveform

    def _decode_segment(
        self, latent: Tensor, starts: Tensor, batch: SynthesizerInputs, speaker: Tensor | None, draws: RandomDraws
    ) -> Tensor:
        """Decode one segment per utterance, (B, 1, segment · hop); a source-filter decoder gets the true pitch."""
        n_frames = self.config.segment_frames
        segments = slice_segments(latent, starts, n_frames)
        if not isinstance(self.decoder, SourceFilterDecoder):
            waveform: Tensor = self.decoder(segments, speaker)
            return waveform
        n_samples = n_frames * self.config.hop_samples
        noise = draws.normal(
            latent.new_empty(len(latent), 1, n_samples), torch.full_like(batch.spectrogram_lengths, n_samples)
        )
        pitch = slice_segments(batch.spectrogram[:, -PITCH_ROWS:], starts, n_frames)
        shaped: Tensor = self.decoder(segments, speaker, pitch=pitch, noise=noise)
        return shaped

    def _pitch_loss(
        self, latent: Tensor, batch: SynthesizerInputs, frame_mask: Tensor, speaker: Tensor | None
    ) -> Tensor | None:
        """Return the absolute error of the pitch estimate plus the cross entropy of its voicing, means over frames."""
        if not isinstance(self.decoder, SourceFilterDecoder):
            return None
        estimate = self.decoder.pitch(latent, speaker)
        mask = frame_mask.squeeze(1)
        log_pitch, voiced = batch.spectrogram[:, -2], (batch.spectrogram[:, -1] > 0).to(latent.dtype)
        error = (estimate.log_pitch - log_pitch).abs() * (voiced + UNVOICED_PITCH_WEIGHT)
        entropy = functional.binary_cross_entropy_with_logits(estimate.voicing_logits, voiced, reduction="none")
        return ((error + entropy) * mask).sum() / mask.sum()

    def _expand_prior(
        self, text: TextEncoding, durations: Tensor, path: Tensor, frame_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the prior's mean and log standard deviation per frame, (B, Z, T) each.

        Without autocast: half precision cannot count frames.
        """
        with torch.autocast(path.device.type, enabled=False):
            mean, log_std = _expand(text.prior_mean, path), _expand(text.prior_log_std, path)
            if not self.config.frame_prior_layers:
                return mean, log_std
            mean_change, log_std_change = self.frame_prior(text.hidden, durations, path, frame_mask)
            return mean + mean_change, log_std + log_std_change

    def speaker_vector(self, speaker_ids: Tensor | None, spectrogram: Tensor | None = None) -> Tensor | None:
        """Return the speaker embedding (B, G, 1), None for a model without; ValueError if its source is missing."""
        if self.config.n_speakers > 0:
            if speaker_ids is None:
                raise ValueError(f"speaker_ids are needed: the model has {self.config.n_speakers} speakers")
            embedding: Tensor = self.speaker_embedding(speaker_ids)
            return embedding.unsqueeze(2)
        if self.config.use_reference_encoder:
            if spectrogram is None:
                raise ValueError("a reference spectrogram is needed: the model reads the speaker from it")
            summary: Tensor = self.reference_encoder(spectrogram.transpose(1, 2))
            return summary.unsqueeze(2)
        return None

    @torch.no_grad()
    def _align(
        self, latent_prior: Tensor, text: TextEncoding, batch: SynthesizerInputs, noise: float, draws: RandomDraws
    ) -> Tensor:
        with torch.autocast(latent_prior.device.type, enabled=False):
            scores = alignment_scores(latent_prior, text.prior_mean, text.prior_log_std)
        if self.config.noise_scaled and noise > 0:
            scores = scores + draws.alignment_noise(scores, batch.spectrogram_lengths, batch.phone_lengths, noise)
        return search_durations(scores, batch.spectrogram_lengths, batch.phone_lengths)

    def _duration_terms(
        self, text: TextEncoding, durations: Tensor, speaker: Tensor | None, phone_lengths: Tensor, draws: RandomDraws
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return predicted and target log durations (B, 1, P), squared error and negative log-likelihood (B,)."""
        mask = text.phone_mask
        observed = durations.unsqueeze(1).to(text.hidden.dtype)
        n_phones = mask.sum()
        nll = None
        if self.config.use_sdp:
            noise = draws.normal(observed.expand(-1, 2, -1), phone_lengths)
            nll = self.stochastic_duration_predictor(text.hidden, mask, observed, speaker, noise=noise) / n_phones
        target = (observed + 1e-6).log() * mask
        predicted = self.duration_predictor(text.hidden, mask, speaker)
        error = (predicted - target).square().sum((1, 2)) / n_phones
        return predicted, target, error, nll

    def _predict_log_durations(
        self, text: TextEncoding, speaker: Tensor | None, noise_scale: float, sdp_ratio: float
    ) -> Tensor:
        if not self.config.use_sdp or sdp_ratio == 0:
            predicted: Tensor = self.duration_predictor(text.hidden, text.phone_mask, speaker)
            return predicted
        sampled: Tensor = self.stochastic_duration_predictor.sample(
            text.hidden, text.phone_mask, speaker, noise_scale=noise_scale
        )
        if sdp_ratio == 1:
            return sampled
        regressed: Tensor = self.duration_predictor(text.hidden, text.phone_mask, speaker)
        return sampled * sdp_ratio + regressed * (1 - sdp_ratio)


def frames_of_phones(log_durations: Tensor, phone_mask: Tensor, length_scale: float | Tensor) -> Tensor:
    """Return whole frames (B, P) of log durations (B, 1, P) times `length_scale`; mask (B, 1, P)."""
    return (log_durations.exp() * phone_mask * length_scale).ceil().squeeze(1).long()


def alignment_scores(latent_prior: Tensor, prior_mean: Tensor, prior_log_std: Tensor) -> Tensor:
    """Return the log-likelihood (B, T, P) of each latent frame (B, Z, T) under each phone's Gaussian (B, Z, P)."""
    precision = torch.exp(-2 * prior_log_std)
    weighted_mean = prior_mean * precision
    constant = -(HALF_LOG_TWO_PI + prior_log_std + 0.5 * prior_mean * weighted_mean).sum(1, keepdim=True)
    frames = latent_prior.transpose(1, 2)  # (B, Z, T) → (B, T, Z)
    return frames @ weighted_mean - 0.5 * frames.square() @ precision + constant


def _expand(per_phone: Tensor, path: Tensor) -> Tensor:
    """Repeat phone values (B, Z, P) along the frames of an alignment (B, T, P) → (B, Z, T)."""
    return per_phone @ path.transpose(1, 2)
