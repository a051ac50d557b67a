import math

import numpy as np
import pytest

from stages.metrics.signal_metrics import analyse, compare, mel_cepstrum, phone_duration_error_ms, relative_length_error
from tests.stages.speech_sounds import RATE_HZ, make_vowel, make_words


def distance(reference, other, *, aligned=False):
    return compare(analyse(reference, RATE_HZ), analyse(other, RATE_HZ), aligned=aligned)


@pytest.mark.parametrize("aligned", [True, False])
def test_a_recording_is_at_distance_zero_from_itself(aligned):
    found = distance(make_words(), make_words(), aligned=aligned)
    assert (found.mcd_db, found.f0_rmse_cents, found.f0_rmse_hz, found.voicing_error) == (0, 0, 0, 0)
    assert found.reason == ""


def test_distortion_grows_with_noise():
    noise = np.random.default_rng(1).standard_normal(len(make_words()))
    distortions = [
        distance(make_words(), make_words() + level * noise, aligned=True).mcd_db for level in (0.001, 0.004, 0.016)
    ]
    assert 0 < distortions[0] < distortions[1] < distortions[2]


def test_distortion_has_the_value_of_its_formula_for_a_known_tilt():
    # log A' − log A = cos(π mel / mel_top) is c_1 = 1 and nothing else: 10 / ln 10 · sqrt(2) dB.
    frequencies = np.linspace(0, RATE_HZ / 2, 4097)
    phase = np.pi * np.log10(1 + frequencies / 700) / np.log10(1 + RATE_HZ / 2 / 700)
    cepstrum = mel_cepstrum(np.stack([np.ones_like(phase), np.exp(2 * np.cos(phase))]), RATE_HZ)
    difference = cepstrum[1] - cepstrum[0]
    assert difference[1] == pytest.approx(1, abs=1e-3)
    assert np.abs(np.delete(difference, 1)).max() < 1e-3
    assert 10 / math.log(10) * math.sqrt(2 * np.sum(difference[1:] ** 2)) == pytest.approx(6.142, abs=0.01)


def test_loudness_does_not_count():
    assert distance(make_words(), 0.25 * make_words()).mcd_db < 0.05


def test_a_fading_voice_is_a_level_error_of_known_size():
    vowel = make_vowel(130)
    halves = np.where(np.arange(len(vowel)) < len(vowel) // 2, 1.0, 0.1)  # 20 dB: 10 above and 10 below their mean
    assert distance(vowel, (vowel * halves).astype(np.float32), aligned=True).energy_rmse_db == pytest.approx(
        10, abs=0.5
    )
    assert distance(vowel, 0.25 * vowel, aligned=True).energy_rmse_db < 0.1


def test_melodies_that_move_together_correlate_and_opposite_ones_do_not():
    def glide(start_hz, end_hz):
        f0_hz = np.linspace(start_hz, end_hz, RATE_HZ)
        phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
        return sum(0.05 * np.sin(number * phase) for number in range(1, 12)).astype(np.float32)

    assert distance(glide(120, 180), glide(130, 190), aligned=True).f0_correlation > 0.95
    assert distance(glide(120, 180), glide(180, 120), aligned=True).f0_correlation < -0.95


@pytest.mark.parametrize("cents", [-300, 100, 700])
def test_a_shift_of_pitch_is_found_in_cents_and_hertz(cents):
    shifted_hz = 130 * 2 ** (cents / 1200)
    found = distance(make_vowel(130), make_vowel(shifted_hz), aligned=True)
    assert found.f0_rmse_cents == pytest.approx(abs(cents), rel=0.02)
    assert found.f0_rmse_hz == pytest.approx(abs(shifted_hz - 130), rel=0.02)


def test_stretched_time_hardly_counts_where_frames_are_warped():
    slower = make_words(seconds_per_vowel=0.4)
    warped, unwarped = distance(make_words(), slower), distance(make_words(), slower, aligned=True)
    assert warped.mcd_db < 2 < unwarped.mcd_db
    assert warped.f0_rmse_cents < 25
    assert warped.voicing_error < 0.06


def test_a_whisper_is_a_voicing_error():
    noise = 0.05 * np.random.default_rng(2).standard_normal(RATE_HZ)
    found = distance(make_vowel(130), noise.astype(np.float32), aligned=True)
    assert found.voicing_error > 0.8


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (np.zeros(RATE_HZ, dtype=np.float32), "silent"),
        (np.zeros(0, dtype=np.float32), "0.000 s is too short"),
        (np.ones(100, dtype=np.float32), "0.006 s is too short"),
        (np.full(RATE_HZ, np.nan, dtype=np.float32), "16000 samples are not finite"),
    ],
)
def test_what_cannot_be_analysed_gives_nan_and_the_reason(waveform, reason):
    found = distance(make_words(), waveform)
    assert all(math.isnan(value) for value in (found.mcd_db, found.f0_rmse_cents, found.voicing_error))
    assert found.reason.startswith(reason)
    assert distance(waveform, make_words()).reason.startswith(f"the recording: {reason}")


def test_unvoiced_speech_has_a_distortion_but_no_pitch_error():
    noise = (0.05 * np.random.default_rng(2).standard_normal(RATE_HZ)).astype(np.float32)
    found = distance(noise, noise)
    assert found.mcd_db == 0 and math.isnan(found.f0_rmse_cents)
    assert found.reason == "no frame is voiced in both"


def test_the_same_input_gives_the_same_bits():
    noisy = make_words() + 0.01 * np.random.default_rng(4).standard_normal(len(make_words())).astype(np.float32)
    assert distance(make_words(), noisy) == distance(make_words(), noisy)


def test_the_length_error_is_relative_to_the_recording():
    assert relative_length_error(2.0, 1.5) == 0.25
    assert math.isnan(relative_length_error(0.0, 1.0))


def test_the_phone_duration_error_is_in_milliseconds():
    assert phone_duration_error_ms(np.array([2, 5, 3]), np.array([4, 5, 2]), 0.016) == pytest.approx(16.0)
    assert math.isnan(phone_duration_error_ms(None, np.array([4]), 0.016))
