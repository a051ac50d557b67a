"""Compatibility checks between networks, discriminators and spectrogram for training."""

from __future__ import annotations

from model.audio.settings import SpectrogramSettings
from model.config import PITCH_ROWS, DiscriminatorConfig, ModelConfig
from model.settings import ConfigError


def check_training_fit(
    model: ModelConfig, discriminator: DiscriminatorConfig, spectrogram: SpectrogramSettings
) -> None:
    """Raise ConfigError listing every reason why these networks cannot be trained together on such spectrograms."""
    problems = []
    segment_samples = model.segment_frames * model.hop_samples
    if model.hop_samples != spectrogram.hop_samples:
        problems.append(
            f"hop_samples {model.hop_samples} is not the spectrogram's {spectrogram.hop_samples}; make them equal"
        )
    if segment_samples < spectrogram.min_samples:
        problems.append(_short_segment(model, f"the spectrogram of n_fft {spectrogram.n_fft}", spectrogram.min_samples))
    problems += [
        _short_segment(model, f"the discriminator of period {period}", period // 2 + 1)
        for period in discriminator.periods
        if segment_samples <= period // 2  # the last period is padded by reflection, which must be shorter than that
    ]
    if spectrogram.n_mels == spectrogram.n_frequencies:
        problems.append(
            f"n_mels {spectrogram.n_mels} equals the {spectrogram.n_frequencies} frequencies of n_fft "
            f"{spectrogram.n_fft}, which makes mel and linear posterior inputs indistinguishable; lower n_mels"
        )
    elif model.latent_follows_mels:
        if model.spectrogram_channels != spectrogram.n_mels + PITCH_ROWS:
            problems.append(
                f"spectrogram_channels {model.spectrogram_channels} is not n_mels {spectrogram.n_mels} plus "
                f"{PITCH_ROWS} rows of pitch"
            )
    elif model.spectrogram_channels not in (spectrogram.n_mels, spectrogram.n_frequencies):
        problems.append(
            f"spectrogram_channels {model.spectrogram_channels} is neither n_mels {spectrogram.n_mels} nor the "
            f"{spectrogram.n_frequencies} frequencies of n_fft {spectrogram.n_fft}"
        )
    if problems:
        raise ConfigError("networks and spectrogram: " + "; ".join(problems))


def _short_segment(model: ModelConfig, reader: str, needed_samples: int) -> str:
    return (
        f"segment_frames {model.segment_frames} of hop_samples {model.hop_samples} are "
        f"{model.segment_frames * model.hop_samples} samples, too few for {reader}; "
        f"use at least {-(-needed_samples // model.hop_samples)} frames"
    )
