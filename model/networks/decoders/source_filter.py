"""Source-filter decoder: shapes a pulse train and white noise, so that it is a vocoder before any training.

With a latent of log-mels and pitch, most of a decoder is given: voiced speech is a pulse train at the pitch, unvoiced
speech is noise, and the mels are the envelope of both. The network at frame rate learns a correction of the envelope,
the share of noise at each frequency, a phase, and a pitch estimate from a noisy latent.
Sources: harmonic-plus-noise synthesis (Engel et al. 2020, DDSP, section 3), the neural source-filter (Wang et al.
2019), and the frame-rate network of Vocos (Siuzdak 2023).
Legend: B batch, T frames, S samples, C channels, F frequencies, M mel bands, G speaker channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.audio.pitch import REFERENCE_HZ, UNIT
from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import mel_filterbank
from model.config import PITCH_ROWS, ModelConfig
from model.networks.decoders.convnext import FrameStack
from model.networks.decoders.istft import MAX_MAGNITUDE, inverse_stft

# Rough mean and standard deviation of the log-mels of speech: normalises the latent.
LOG_MEL_MEAN, LOG_MEL_SPREAD = -5.0, 2.5
PITCH_CHANNELS, PITCH_FILTER_CHANNELS, PITCH_LAYERS = 96, 256, 2
VOICING_SLOPE = 3.0
NOISE_FROM_HZ, NOISE_SPREAD_HZ = 4000.0, 1000.0  # initial transition of voiced speech from pulses to noise
MAX_PITCH_UNITS = 9.0  # 39 … 579 Hz
SMALLEST_POWER = 1e-6
TOP_HARMONIC = 0.96  # of the Nyquist frequency


def posterior_frames(log_mel: Tensor, pitch: Tensor) -> Tensor:
    """Return the posterior encoder's input, which is also its initial mean.

    Log-mels (B, M, T), pitch features (B, 2, T) → (B, M + 2, T).
    """
    return torch.cat(((log_mel - LOG_MEL_MEAN) / LOG_MEL_SPREAD, pitch), dim=1)


class PitchEstimate(NamedTuple):
    """Log-pitch in the units of `model.audio.pitch` and logits of being voiced, (B, T) both."""

    log_pitch: Tensor
    voicing_logits: Tensor

    def features(self) -> Tensor:
        """Return pitch features (B, 2, T), as of `pitch_features`."""
        return torch.stack((self.log_pitch, torch.where(self.voicing_logits > 0, 1.0, -1.0)), dim=1)


class SourceFilterDecoder(nn.Module):
    """Latent (B, C, T) → waveform (B, 1, T · hop); the latent's rows are mel bands, then two of pitch features."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.sample_rate_hz = config.sample_rate_hz
        self.hop_samples, self.n_fft = config.hop_samples, config.istft_n_fft
        n_frequencies = self.n_fft // 2 + 1
        self.pitch_stack = FrameStack(
            config,
            config.inter_channels,
            channels=PITCH_CHANNELS,
            filter_channels=PITCH_FILTER_CHANNELS,
            n_layers=PITCH_LAYERS,
        )
        self.pitch_projection = _zeroed(nn.Linear(PITCH_CHANNELS, 2))
        self.stack = FrameStack(
            config,
            config.inter_channels + PITCH_ROWS,
            channels=config.istft_channels,
            filter_channels=config.istft_filter_channels,
            n_layers=config.istft_layers,
        )
        self.projection = _zeroed(nn.Linear(config.istft_channels, 3 * n_frequencies))
        bands = MelBands.of(config)
        self.envelope = nn.Linear(config.inter_channels - PITCH_ROWS, n_frequencies)
        with torch.no_grad():
            self.envelope.weight.copy_(bands.spread * LOG_MEL_SPREAD)
            self.envelope.bias.copy_(LOG_MEL_MEAN - bands.spread @ bands.weights.log())
        frequencies_hz = torch.linspace(0, config.sample_rate_hz / 2, n_frequencies)
        self.register_buffer(
            "initial_noise_logits", ((frequencies_hz - NOISE_FROM_HZ) / NOISE_SPREAD_HZ).clamp(-3, 3), persistent=False
        )
        self.register_buffer("band_means", bands.means, persistent=False)
        self.register_buffer("band_spread", bands.spread, persistent=False)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.initial_noise_logits: Tensor
        self.band_means: Tensor
        self.band_spread: Tensor
        self.window: Tensor

    def pitch(self, latent: Tensor, speaker_embedding: Tensor | None = None) -> PitchEstimate:
        """Estimate the pitch from a noisy latent (B, C, T)."""
        change = self.pitch_projection(self.pitch_stack.frames(latent, speaker_embedding))
        return PitchEstimate(latent[:, -2] + change[..., 0], VOICING_SLOPE * latent[:, -1] + change[..., 1])

    def forward(
        self,
        latent: Tensor,
        speaker_embedding: Tensor | None = None,
        *,
        pitch: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Decode (B, C, T) with speaker embedding (B, G, 1) or None → (B, 1, S).

        `pitch` features (B, 2, T) replace the estimate; `noise` (B, 1, S) is standard normal, drawn here if None.
        """
        if pitch is None:
            pitch = self.pitch(latent, speaker_embedding).features()
        voiced = pitch[:, 1] > 0
        hidden = self.stack.frames(torch.cat((latent, pitch), dim=1), speaker_embedding)
        with torch.autocast(hidden.device.type, enabled=False):
            change, noise_logits, phase = self.projection(hidden.float()).chunk(3, dim=-1)
            bands = latent[:, :-PITCH_ROWS].transpose(1, 2).float()  # (B, M, T) → (B, T, M)
            magnitude = (change + self.envelope(bands)).clamp(max=math.log(MAX_MAGNITUDE)).exp()
            noise_share = torch.where(voiced.unsqueeze(2), torch.sigmoid(noise_logits + self.initial_noise_logits), 1.0)
            pulse_spectrum, noise_spectrum = self._sources(pitch.float(), noise)
            tonal = torch.polar(magnitude * (1 - noise_share + SMALLEST_POWER).sqrt(), phase)
            spectrum = pulse_spectrum * tonal + noise_spectrum * (magnitude * (noise_share + SMALLEST_POWER).sqrt())
            return inverse_stft(spectrum, self.window, self.hop_samples).unsqueeze(1)

    def remove_weight_norm(self) -> None:
        """Do nothing: there is no weight norm; all decoders share this interface."""

    @torch.no_grad()
    def _sources(self, pitch: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the spectra (B, T, F) of pulses and of noise, each with a flat mel envelope."""
        pulses = self._pulses(pitch)
        noise = torch.randn_like(pulses) if noise is None else noise.squeeze(1).to(pulses.dtype)
        before = (self.n_fft - self.hop_samples) // 2
        padded = functional.pad(torch.cat((pulses, noise)), (before, self.n_fft - self.hop_samples - before))
        spectrum = torch.fft.rfft(padded.unfold(1, self.n_fft, self.hop_samples) * self.window)
        envelope = (spectrum.abs() @ self.band_means.T + 1e-3).log() @ self.band_spread.T
        flat = spectrum * torch.exp(-envelope)
        return flat[: len(pulses)], flat[len(pulses) :]

    def _pulses(self, pitch: Tensor) -> Tensor:
        """Return the sum of all harmonics of the pitch (B, 2, T) below the Nyquist frequency, unit cosines, (B, S).

        In closed form the sum is the Dirichlet kernel of the phase.
        """
        n_samples = pitch.shape[2] * self.hop_samples
        pitch_hz = REFERENCE_HZ * torch.exp(UNIT * pitch[:, :1].clamp(-MAX_PITCH_UNITS, MAX_PITCH_UNITS))
        tracks = torch.cat((pitch_hz, (pitch[:, 1:] > 0).to(pitch_hz)), dim=1)
        pitch_hz, gate = functional.interpolate(tracks, n_samples, mode="linear", align_corners=False).unbind(1)
        cycles = torch.cumsum(pitch_hz.double() / self.sample_rate_hz, dim=1)
        half_phase = (math.pi * (cycles - cycles.round())).to(pitch_hz)  # in -pi/2 … pi/2
        n_harmonics = (TOP_HARMONIC * self.sample_rate_hz / 2 / pitch_hz).floor()
        sine = half_phase.sin()
        at_pulse = sine.abs() < 1e-4
        kernel = ((2 * n_harmonics + 1) * half_phase).sin() / (2 * torch.where(at_pulse, 1.0, sine)) - 0.5
        return torch.where(at_pulse, n_harmonics, kernel) * gate


class MelBands(NamedTuple):
    """Maps between frequencies and mel bands.

    weights (M,): sum of each band's filter; means (M, F): average a magnitude spectrum over bands; spread (F, M):
    interpolate linearly between band centres.
    """

    weights: Tensor
    means: Tensor
    spread: Tensor

    @classmethod
    def of(cls, config: ModelConfig) -> MelBands:
        """Return the bands of the mels in the latent."""
        n_mels = config.inter_channels - PITCH_ROWS
        filters = mel_filterbank(
            SpectrogramSettings(
                sample_rate_hz=config.sample_rate_hz,
                n_fft=config.istft_n_fft,
                hop_samples=config.hop_samples,
                win_samples=config.istft_n_fft,
                n_mels=n_mels,
                mel_fmin_hz=config.mel_fmin_hz,
                mel_fmax_hz=config.mel_fmax_hz or None,
            )
        )
        weights = filters.sum(1)
        frequencies = np.arange(filters.shape[1])
        centres = (filters * frequencies).sum(1) / weights
        spread = np.stack([np.interp(frequencies, centres, one) for one in np.eye(n_mels)], axis=1)
        return cls(*(torch.from_numpy(each).float() for each in (weights, filters / weights[:, None], spread)))


def _zeroed(linear: nn.Linear) -> nn.Linear:
    """Set a layer's weights to zero and return it."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
