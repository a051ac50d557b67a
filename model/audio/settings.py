"""Spectrogram settings and the floors of its logarithms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from model.settings import NonNegativeFloat, PositiveFloat, PositiveInt, Settings

POWER_FLOOR = 1e-6  # added to the power: keeps the square root's gradient finite at silence

MEL_FLOOR = 1e-5  # smallest mel magnitude before the logarithm


@dataclass(frozen=True)
class SpectrogramSettings(Settings):
    """Short-time transform and mel filter bank; `mel_fmax_hz` None means the Nyquist frequency."""

    sample_rate_hz: PositiveInt
    n_fft: PositiveInt
    hop_samples: PositiveInt
    win_samples: PositiveInt
    n_mels: PositiveInt
    mel_fmin_hz: NonNegativeFloat = 0.0
    mel_fmax_hz: PositiveFloat | None = None

    def _conflicts(self) -> Iterator[str]:
        if self.win_samples > self.n_fft:
            yield f"win_samples {self.win_samples} exceeds n_fft {self.n_fft}"
        if self.hop_samples > self.win_samples:
            yield f"hop_samples {self.hop_samples} exceeds win_samples {self.win_samples}"
        if (self.n_fft - self.hop_samples) % 2:
            yield f"n_fft {self.n_fft} minus hop_samples {self.hop_samples} is odd: the padding must be whole"
        if not self.mel_fmin_hz < self.mel_top_hz <= self.sample_rate_hz / 2:
            yield (
                f"mel range {self.mel_fmin_hz} to {self.mel_top_hz} Hz must rise within "
                f"0 to {self.sample_rate_hz / 2} Hz"
            )

    @property
    def n_frequencies(self) -> int:
        """Channels of the linear spectrogram."""
        return self.n_fft // 2 + 1

    @property
    def mel_top_hz(self) -> float:
        """Upper edge of the highest mel filter."""
        return self.sample_rate_hz / 2 if self.mel_fmax_hz is None else self.mel_fmax_hz

    @property
    def padding_samples(self) -> int:
        """Samples mirrored at each end, so that n samples give n // hop frames."""
        return (self.n_fft - self.hop_samples) // 2

    @property
    def min_samples(self) -> int:
        """Shortest clip that can be transformed: mirrored padding needs more samples than it adds."""
        return max(self.padding_samples + 1, self.hop_samples)

    def frame_count(self, n_samples: int) -> int:
        """Frames of a clip of `n_samples`: the one place that knows."""
        return (n_samples + 2 * self.padding_samples - self.n_fft) // self.hop_samples + 1

    def require_length(self, n_samples: int) -> None:
        """Raise ValueError if a clip is too short to transform."""
        if n_samples < self.min_samples:
            raise ValueError(
                f"clip of {n_samples} samples is too short: n_fft {self.n_fft} with hop "
                f"{self.hop_samples} needs at least {self.min_samples}"
            )
