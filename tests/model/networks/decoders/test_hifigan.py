"""Decoders: exact lengths, inversion of a known spectrum, conditioning, weight norm."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from model.config import ModelConfig
from model.networks.decoders.build import build_decoder
from model.networks.decoders.istft import IstftDecoder, IstftHead

HIFIGAN = ModelConfig(
    inter_channels=24,
    speaker_channels=16,
    decoder="hifigan",
    resblock_kernel_sizes=(3, 5),
    resblock_dilation_sizes=((1, 3, 5), (1, 3, 5)),
    upsample_rates=(4, 4, 2),
    upsample_initial_channels=32,
    upsample_kernel_sizes=(8, 8, 4),
    hop_samples=32,
)
ISTFT = ModelConfig(
    inter_channels=12,
    n_speakers=0,
    speaker_channels=0,
    decoder="istft",
    istft_channels=16,
    istft_layers=2,
    istft_filter_channels=32,
    istft_n_fft=64,
    hop_samples=16,
)


@pytest.mark.parametrize("config", [replace(HIFIGAN, n_speakers=0, speaker_channels=0), ISTFT])
@pytest.mark.parametrize("n_frames", [1, 2, 7])
def test_every_frame_becomes_hop_samples(config, n_frames):
    waveform = build_decoder(config)(torch.randn(2, config.inter_channels, n_frames))
    assert waveform.shape == (2, 1, n_frames * config.hop_samples)
    assert torch.isfinite(waveform).all()


@pytest.mark.parametrize(("n_fft", "hop_samples"), [(64, 16), (64, 32), (66, 20), (100, 30)])
def test_the_head_inverts_the_spectrum_of_a_waveform(n_fft, hop_samples):
    n_frames, padding = 9, (n_fft - hop_samples) // 2
    waveform = torch.randn(2, n_frames * hop_samples, generator=torch.Generator().manual_seed(0))
    padded = nn.functional.pad(waveform, (padding, padding))
    spectrum = torch.fft.rfft(padded.unfold(-1, n_fft, hop_samples) * torch.hann_window(n_fft))
    head = IstftHead(n_fft + 2, n_fft=n_fft, hop_samples=hop_samples)
    head.projection = nn.Identity()
    rebuilt = head(torch.cat((spectrum.abs().log(), spectrum.angle()), dim=-1))
    torch.testing.assert_close(rebuilt, waveform, rtol=1e-4, atol=1e-4)


def test_a_huge_predicted_magnitude_stays_finite():
    head = IstftHead(66, n_fft=64, hop_samples=16)
    head.projection = nn.Identity()
    frames = torch.full((1, 3, 66), 1e4, requires_grad=True)
    head(frames).square().sum().backward()
    assert torch.isfinite(frames.grad).all()


def test_far_frames_do_not_reach_a_sample():
    decoder = IstftDecoder(ISTFT)
    latent = torch.randn(1, 12, 60)
    changed = latent.clone()
    changed[..., 40:] += 1.0
    # Three convolutions of kernel 7 see 9 frames to each side, overlapping frames 2 more.
    unaffected = (40 - 9 - 2) * ISTFT.hop_samples
    with torch.no_grad():
        before, after = decoder(latent), decoder(changed)
    torch.testing.assert_close(before[..., :unaffected], after[..., :unaffected], rtol=0, atol=1e-6)
    assert not torch.allclose(before[..., 40 * 16 :], after[..., 40 * 16 :])


@pytest.mark.parametrize("config", [HIFIGAN, replace(ISTFT, n_speakers=3, speaker_channels=16)])
def test_the_speaker_changes_the_waveform_and_is_required(config):
    decoder = build_decoder(config)
    latent, speakers = torch.randn(1, config.inter_channels, 4), torch.randn(2, 16, 1)
    first, second = decoder(latent.expand(2, -1, -1), speakers)
    assert not torch.allclose(first, second)
    with pytest.raises(ValueError, match="speaker embedding"):
        decoder(latent)


def test_removing_weight_norm_is_harmless_where_there_is_none():
    decoder = build_decoder(ISTFT)
    latent = torch.randn(1, 12, 4)
    before = decoder(latent)
    decoder.remove_weight_norm()
    assert torch.equal(decoder(latent), before)


@pytest.mark.parametrize("config", [replace(HIFIGAN, n_speakers=0, speaker_channels=0), ISTFT])
def test_every_parameter_receives_a_gradient(config):
    decoder = build_decoder(config)
    decoder(torch.randn(2, config.inter_channels, 5)).square().sum().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in decoder.parameters())
