"""Check that networks, discriminators and spectrogram fit each other for training."""

from __future__ import annotations

from model.audio.settings import SpectrogramSettings
from model.config import PITCH_ROWS, DiscriminatorConfig, ModelConfig
from model.settings import ConfigError


def check_training_fit(
    model: ModelConfig, discriminator: DiscriminatorConfig, spectrogram: SpectrogramSettings
) -> None:
    """Raise ConfigError listing every way in which networks that are valid alone cannot be trained together on such
    spectrograms.
    """
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
        if segment_samples
        <= period // 2  # what fills up the last period is mirrored, and must be shorter than the segment
    ]
    if spectrogram.n_mels == spectrogram.n_frequencies:
        problems.append(
            f"n_mels {spectrogram.n_mels} equals the {spectrogram.n_frequencies} frequencies of n_fft {spectrogram.n_fft}, so that "
            "mel and linear posterior inputs cannot be told apart; lower n_mels"
        )
    elif model.latent_follows_mels:
        if model.spectrogram_channels != spectrogram.n_mels + PITCH_ROWS:
            problems.append(
                f"spectrogram_channels {model.spectrogram_channels} is not n_mels {spectrogram.n_mels} and {PITCH_ROWS} rows of pitch"
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
        f"segment_frames {model.segment_frames} of hop_samples {model.hop_samples} are {model.segment_frames * model.hop_samples} samples, "
        f"too few for {reader}; use at least {-(-needed_samples // model.hop_samples)} frames"
    )
