"""Pitch features: known pitch, frames centred as the spectrogram's, unvoiced speech and silence."""

import numpy as np
import pytest

from model.audio.pitch import REFERENCE_HZ, UNIT, pitch_features

RATE_HZ, HOP = 16000, 256


def buzz(pitch_hz: np.ndarray) -> np.ndarray:
    """Twenty harmonics of a pitch given per sample, as 16-bit samples."""
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    return (3000 * sum(np.cos(k * phase) / k for k in range(1, 21)) / 2).astype(np.int16)


def test_pitch_is_that_of_each_frames_middle() -> None:
    n_frames = 100
    glide = np.linspace(110, 330, n_frames * HOP)
    log_pitch, voicing = pitch_features(buzz(glide), RATE_HZ, HOP, n_frames)
    inner = slice(5, -5)
    expected = glide[HOP // 2 :: HOP][inner]
    assert (voicing[inner] == 1).all()
    cents = 1200 * np.log2(REFERENCE_HZ * np.exp(UNIT * log_pitch[inner]) / expected)
    assert abs(np.median(cents)) < 5 and np.abs(cents).max() < 50  # one frame is 18 to 5 cents on this glide


def test_unvoiced_frames_lie_on_a_line_between_voiced_ones() -> None:
    samples = buzz(np.full(90 * HOP, 200.0))
    samples[30 * HOP : 60 * HOP] = 0
    log_pitch, voicing = pitch_features(samples, RATE_HZ, HOP, 90)
    assert (voicing[40:55] == -1).all() and (voicing[5:25] == 1).all() and (voicing[65:85] == 1).all()
    assert log_pitch[40:55] == pytest.approx(np.log(200 / REFERENCE_HZ) / UNIT, abs=0.2)


@pytest.mark.parametrize("n_samples", [0, 1, 300, 4000])
def test_silence_has_features_of_the_length_asked_for(n_samples: int) -> None:
    features = pitch_features(np.zeros(n_samples, dtype=np.int16), RATE_HZ, HOP, 7)
    assert features.shape == (2, 7) and features.dtype == np.float32
    assert (features[0] == 0).all() and (features[1] == -1).all()
