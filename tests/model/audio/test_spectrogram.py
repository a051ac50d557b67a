"""Whole-clip spectrograms: values, padding, edge cases and the mel filter bank."""

import subprocess
import sys

import librosa
import numpy as np
import pytest
import torch

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import half_spectrogram, linear_spectrogram, log_mel, mel_filterbank, transform_kernels
from model.settings import ConfigError

SETTINGS = SpectrogramSettings(sample_rate_hz=16000, n_fft=1024, hop_samples=256, win_samples=1024, n_mels=80)


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(n_samples) * 0.1).astype(np.float32)


def test_a_sine_peaks_in_its_own_frequency_bin():
    frequency_bin = 100
    time = np.arange(16000)
    sine = np.sin(2 * np.pi * frequency_bin * time / SETTINGS.n_fft).astype(np.float32)
    linear = linear_spectrogram(sine, SETTINGS)
    assert (linear[2:-2].argmax(axis=1) == frequency_bin).all()
    # A unit sine under a Hann window has magnitude n_fft / 4.
    np.testing.assert_allclose(linear[2:-2, frequency_bin], SETTINGS.n_fft / 4, rtol=1e-4)


def test_silence_gives_the_root_of_the_power_floor():
    linear = linear_spectrogram(np.zeros(4000, dtype=np.int16), SETTINGS)
    np.testing.assert_allclose(linear, 1e-3, rtol=1e-6)


def test_int16_and_its_float_equivalent_give_the_same_bytes():
    integers = (noise(5000) * 32767).astype(np.int16)
    from_floats = linear_spectrogram(integers.astype(np.float32) / 32768, SETTINGS)
    np.testing.assert_array_equal(linear_spectrogram(integers, SETTINGS), from_floats)


def test_float64_is_refused_rather_than_rescaled():
    with pytest.raises(TypeError, match="float64"):
        linear_spectrogram(np.zeros(4000), SETTINGS)


def test_stereo_is_refused():
    with pytest.raises(ValueError, match="mono"):
        linear_spectrogram(np.zeros((4000, 2), dtype=np.int16), SETTINGS)


@pytest.mark.parametrize("n_samples", [385, 511, 512, 1023, 1024, 4099, 16384])
def test_frame_count_is_the_number_of_rows(n_samples):
    linear = linear_spectrogram(noise(n_samples), SETTINGS)
    assert linear.shape == (SETTINGS.frame_count(n_samples), SETTINGS.n_frequencies)
    assert SETTINGS.frame_count(n_samples) == n_samples // SETTINGS.hop_samples
    assert linear.dtype == np.float32 and linear.flags.c_contiguous


def test_a_clip_no_longer_than_the_padding_is_refused_with_the_numbers():
    assert SETTINGS.min_samples == 385
    with pytest.raises(ValueError, match=r"clip of 384 samples.*at least 385"):
        linear_spectrogram(noise(384), SETTINGS)


def test_a_frame_has_the_same_bytes_whatever_follows_it():
    clip = noise(256 * 210)
    whole = linear_spectrogram(clip, SETTINGS)
    for n_frames in (5, 66, 131):
        part = linear_spectrogram(clip[: 256 * n_frames], SETTINGS)
        np.testing.assert_array_equal(part[:-2], whole[: n_frames - 2])


@pytest.mark.parametrize(
    ("n_mels", "rate_hz", "n_fft", "fmin_hz", "fmax_hz"),
    [
        (80, 16000, 1024, 0.0, None),
        (128, 44100, 2048, 0.0, None),
        (80, 22050, 1024, 0.0, 8000.0),
        (80, 16000, 1024, 0.0, 8000.0),
        (64, 16000, 1024, 0.0, 8000.0),
        (100, 24000, 1024, 50.0, 11000.0),
        (20, 16000, 128, 0.0, None),
    ],
)
def test_the_filterbank_is_librosas_to_one_rounding(n_mels, rate_hz, n_fft, fmin_hz, fmax_hz):
    settings = SpectrogramSettings(rate_hz, n_fft, n_fft // 4, n_fft, n_mels, fmin_hz, fmax_hz)
    expected = librosa.filters.mel(sr=rate_hz, n_fft=n_fft, n_mels=n_mels, fmin=fmin_hz, fmax=fmax_hz)
    np.testing.assert_allclose(mel_filterbank(settings), expected, rtol=2e-7, atol=0)  # one rounding


def test_log_mel_is_floored_and_matches_the_dense_product():
    filterbank = mel_filterbank(SETTINGS)
    linear = linear_spectrogram(noise(8000), SETTINGS)
    np.testing.assert_allclose(log_mel(linear, filterbank), np.log(linear @ filterbank.T), atol=1e-5)
    silent = log_mel(np.zeros_like(linear), filterbank)
    assert silent.shape == (31, 80)
    np.testing.assert_allclose(silent, np.log(1e-5), rtol=1e-6)


def test_a_filter_without_a_bin_is_reported(caplog):
    mel_filterbank(SpectrogramSettings(16000, n_fft=256, hop_samples=64, win_samples=256, n_mels=128))
    assert "cover no frequency bin" in caplog.text


def test_all_bad_settings_are_reported_together():
    with pytest.raises(ConfigError, match=r"win_samples 1024.*odd.*9000"):
        SpectrogramSettings(16000, n_fft=512, hop_samples=255, win_samples=1024, n_mels=1, mel_fmax_hz=9e3)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n_frames", [1, 2, 127, 128, 129, 300])
def test_bitwise_equal_to_the_stft_of_torch_whatever_the_length(n_frames, n_threads):
    clip = noise(max(SETTINGS.min_samples, 256 * n_frames))
    padded = torch.nn.functional.pad(torch.from_numpy(clip)[None, None], (384, 384), mode="reflect")[0, 0]
    stft = torch.stft(padded, 1024, 256, 1024, torch.hann_window(1024), center=False, return_complex=True)
    expected = torch.sqrt(torch.view_as_real(stft).pow(2).sum(-1) + 1e-6).T.numpy()
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        assert np.array_equal(linear_spectrogram(clip, SETTINGS), expected)
        assert np.array_equal(half_spectrogram(clip, SETTINGS), expected.astype(np.float16))
    finally:
        torch.set_num_threads(before)


def test_transform_kernels_name_torch_and_mkl_settings(monkeypatch):
    monkeypatch.delenv("MKL_CBWR", raising=False)
    plain = transform_kernels()
    assert f"torch {torch.__version__}" in plain
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert transform_kernels() == [*plain, "MKL_CBWR=COMPATIBLE"]


def test_start_up_imports_no_torch_and_filterbanks_no_scipy_signal():
    code = """
import sys
import model.audio.spectrogram as spectrogram
assert not {"torch", "numba", "scipy"} & set(sys.modules)
spectrogram.mel_filterbank(spectrogram.SpectrogramSettings(16000, 1024, 256, 1024, 80))
assert "scipy.signal" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
