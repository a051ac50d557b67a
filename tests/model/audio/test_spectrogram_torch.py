"""Batch spectrograms in torch: agreement with the whole-clip ones, gradients."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import linear_spectrogram, mel_filterbank
from model.audio.spectrogram_torch import log_mel_spectrogram, torch_linear_spectrogram

SETTINGS = SpectrogramSettings(sample_rate_hz=16000, n_fft=1024, hop_samples=256, win_samples=1024, n_mels=80)


def test_bitwise_equal_to_the_stft_of_torch():
    waveform = torch.randn(3, 8192, generator=torch.Generator().manual_seed(1)) * 0.1
    padded = torch.nn.functional.pad(waveform.unsqueeze(1), (384, 384), mode="reflect").squeeze(1)
    stft = torch.stft(padded, 1024, 256, 1024, torch.hann_window(1024), center=False, return_complex=True)
    expected = torch.sqrt(torch.view_as_real(stft).pow(2).sum(-1) + 1e-6)
    assert torch.equal(torch_linear_spectrogram(waveform, SETTINGS), expected)


def test_short_window_agrees_with_the_whole_clip_version():
    settings = SpectrogramSettings(16000, n_fft=512, hop_samples=128, win_samples=400, n_mels=40)
    waveform = torch.randn(1, 4000, generator=torch.Generator().manual_seed(2)) * 0.1
    batch = torch_linear_spectrogram(waveform, settings)[0].T.numpy()
    np.testing.assert_allclose(batch, linear_spectrogram(waveform[0].numpy(), settings), atol=2e-6, rtol=1e-5)


def test_gradient_is_finite_at_silence_and_right_elsewhere():
    settings = SpectrogramSettings(16000, n_fft=32, hop_samples=8, win_samples=32, n_mels=4)
    filterbank = torch.from_numpy(mel_filterbank(settings))
    silent = torch.zeros(1, 64, requires_grad=True)
    log_mel_spectrogram(silent, settings, filterbank).sum().backward()
    assert torch.isfinite(silent.grad).all()
    waveform = torch.randn(1, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert torch.autograd.gradcheck(
        lambda signal: log_mel_spectrogram(signal, settings, filterbank.double()), waveform.requires_grad_()
    )


def test_too_short_a_batch_is_refused():
    with pytest.raises(ValueError, match="at least 385"):
        torch_linear_spectrogram(torch.zeros(2, 384), SETTINGS)


def test_threads_and_inference_mode_share_no_memory():
    settings = SpectrogramSettings(
        sample_rate_hz=44100, n_fft=512, hop_samples=128, win_samples=400, n_mels=40
    )  # of this test alone
    clips = [np.random.default_rng(seed).standard_normal(200_000, dtype=np.float32) for seed in range(8)]
    with torch.inference_mode():
        expected = [linear_spectrogram(clip, settings) for clip in clips]
    assert np.array_equal(linear_spectrogram(clips[0], settings), expected[0]), (
        "what was kept can be written to outside of inference mode"
    )
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda clip: linear_spectrogram(clip, settings), clips * 4))
    assert all(np.array_equal(one, other) for one, other in zip(found, expected * 4, strict=True))
