"""What is measured of a recording, against signals whose values are known."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import soxr

from stages.audio import decode as audio
from stages.audio.loudness import gain_db_to, integrated_lufs
from stages.corpus.measure import bandwidth_hz, clipped_share, measure, noise_floor_dbfs
from stages.corpus.recordings import samples_xxh3
from tests.small_corpus import RECORDINGS

LOUDNESS_TOLERANCE = 0.1  # of a meter, EBU Tech 3341

FloatArray = npt.NDArray[np.float32]


def tone(frequency_hz: float, seconds: float = 2.0, rate_hz: int = 48000, peak: float = 0.5) -> FloatArray:
    return (peak * np.sin(2 * np.pi * frequency_hz * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def noise(seconds: float, rate_hz: int, rms_dbfs: float) -> FloatArray:
    return np.random.default_rng(3).normal(0, 10 ** (rms_dbfs / 20), int(seconds * rate_hz)).astype(np.float32)


def at_16_bits(samples: FloatArray) -> FloatArray:
    return (np.rint(samples * 32768).clip(-32768, 32767) / 32768).astype(np.float32)


def speech() -> FloatArray:
    return audio.decode((RECORDINGS / "allison" / "conf-full.g722").read_bytes(), ".g722").samples[:, 0]


@pytest.mark.parametrize("rate_hz", [16000, 44100, 48000, 192000])
def test_a_full_scale_tone_of_997_hz_has_the_loudness_of_the_standard(rate_hz: int) -> None:
    assert integrated_lufs(tone(997, rate_hz=rate_hz, peak=1.0), rate_hz) == pytest.approx(
        -3.01, abs=LOUDNESS_TOLERANCE
    )


@pytest.mark.parametrize(("n_samples", "rate_hz"), [(14, 24000), (1650, 24000), (3971, 48000), (7911, 44100)])
def test_lengths_that_are_no_round_number_of_seconds_have_a_loudness(n_samples: int, rate_hz: int) -> None:
    assert integrated_lufs(np.full(n_samples, 0.1, np.float32), rate_hz) is not None


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.4, 0.7])
def test_clips_shorter_than_a_block_have_a_loudness_too(seconds: float) -> None:
    assert integrated_lufs(tone(997, seconds, peak=0.1), 48000) == pytest.approx(-23.01, abs=0.6)


def test_silence_and_whispers_below_the_gate_have_no_loudness() -> None:
    assert integrated_lufs(np.zeros(48000, np.float32), 48000) is None
    assert integrated_lufs(tone(997, peak=1e-4), 48000) is None


def test_gain_reaches_the_loudness_unless_the_peak_is_in_the_way() -> None:
    quiet = tone(997, peak=0.01)
    assert gain_db_to(-23.0, quiet, 48000, -1.0) == pytest.approx(20.0, abs=LOUDNESS_TOLERANCE)
    clicked = quiet.copy()
    clicked[100] = 0.5
    assert gain_db_to(-23.0, clicked, 48000, -1.0) == pytest.approx(20 * math.log10(10 ** (-1 / 20) / 0.5), abs=1e-6)
    assert gain_db_to(-23.0, quiet * 0.001, 48000, -1.0) == 0.0


@pytest.mark.parametrize(("gain", "attenuation"), [(1.25, 1.0), (2.0, 1.0), (2.0, 0.5)])
def test_clipping_is_found_also_where_it_was_turned_down_afterwards(gain: float, attenuation: float) -> None:
    whole = tone(110, peak=gain)
    clipped = at_16_bits(whole) * np.float32(attenuation)
    assert clipped_share(clipped) == pytest.approx(float((np.abs(whole) > 1).mean()), rel=0.02)


def test_speech_tones_and_what_merely_touches_full_scale_are_not_clipped() -> None:
    loud = speech() / np.abs(speech()).max()
    assert clipped_share(at_16_bits(loud)) == 0.0
    assert clipped_share(at_16_bits(tone(440, peak=1.0))) == 0.0
    assert clipped_share(at_16_bits(noise(1.0, 16000, -80.0))) == 0.0


def test_the_offset_is_that_of_the_worst_channel_with_its_sign() -> None:
    channels = np.stack([tone(440), tone(440) - np.float32(0.125)], axis=1)
    assert measure(channels, 48000, with_speech=False).dc_offset == pytest.approx(-0.125, abs=1e-4)


@pytest.mark.parametrize("floor_dbfs", [-70.0, -50.0])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_the_noise_floor_is_the_level_of_the_pauses(floor_dbfs: float, offset: float) -> None:
    samples = noise(4.0, 16000, floor_dbfs)
    samples[16000:48000] += tone(300, rate_hz=16000)
    assert noise_floor_dbfs(samples + np.float32(offset), 16000) == pytest.approx(floor_dbfs, abs=1.0)


def test_digital_silence_says_nothing_of_the_noise() -> None:
    padded = np.concatenate([np.zeros(32000, np.float32), noise(1.0, 16000, -40.0), np.zeros(32000, np.float32)])
    assert noise_floor_dbfs(padded, 16000) == pytest.approx(-40.0, abs=1.0)
    assert noise_floor_dbfs(np.zeros(1000, np.float32), 16000) is None


@pytest.mark.parametrize("rate_hz", [22050, 44100, 48000])
def test_speech_that_was_upsampled_keeps_the_bandwidth_it_had(rate_hz: int) -> None:
    fake = at_16_bits(soxr.resample(speech(), 16000, rate_hz, quality="HQ").astype(np.float32))
    assert bandwidth_hz(fake, rate_hz) == pytest.approx(8000, rel=0.03)
    assert bandwidth_hz(speech(), 16000) == pytest.approx(8000, rel=0.01)


def test_wide_noise_has_all_the_bandwidth_and_a_band_of_it_its_upper_edge() -> None:
    wide = noise(2.0, 48000, -30.0)
    assert bandwidth_hz(wide, 48000) == pytest.approx(24000, rel=0.01)
    spectrum = np.fft.rfft(wide)
    spectrum[np.fft.rfftfreq(len(wide), 1 / 48000) > 11000] = 0
    assert bandwidth_hz(at_16_bits(np.fft.irfft(spectrum).astype(np.float32)), 48000) == pytest.approx(11000, rel=0.03)
    assert bandwidth_hz(np.zeros(100, np.float32), 48000) is None


def test_voices_are_heard_in_speech_and_not_in_noise() -> None:
    pause = noise(2.0, 16000, -50.0)
    found = measure(np.concatenate([speech(), pause])[:, None], 16000, with_speech=True).speech_share
    alone = measure(speech()[:, None], 16000, with_speech=True).speech_share
    assert alone is not None and found is not None and alone > 0.7
    assert found == pytest.approx(alone * len(speech()) / (len(speech()) + len(pause)), abs=0.06)
    assert measure(pause[:, None], 16000, with_speech=True).speech_share == 0.0


def test_voices_are_found_at_any_rate() -> None:
    at_44100 = soxr.resample(speech(), 16000, 44100).astype(np.float32)[:, None]
    share = measure(at_44100, 44100, with_speech=True).speech_share
    assert share == pytest.approx(measure(speech()[:, None], 16000, with_speech=True).speech_share, abs=0.03)


def test_silence_of_one_sample_is_measured() -> None:
    found = measure(np.zeros((1, 6), np.float32), 4000, with_speech=False)
    assert (found.peak_dbfs, found.loudness_lufs, found.noise_floor_dbfs, found.bandwidth_hz, found.clipped_share) == (
        None,
        None,
        None,
        None,
        0.0,
    )


def test_the_samples_hash_tells_rates_and_channels_apart() -> None:
    samples = tone(440, 0.1)
    hashes = {
        samples_xxh3(audio.Recording(shaped, rate_hz, "wav"))
        for shaped in (samples[:, None], samples.reshape(-1, 2))
        for rate_hz in (1, 2)
    }
    assert len(hashes) == 4
