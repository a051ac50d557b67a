"""The two sides of the training-step benchmark compute the same thing, on narrow networks."""

import dataclasses

import numpy as np
import pytest
import torch

from bench import train_step
from bench.harness import plain_networks
from bench.harness.speech import Clip
from model.audio.settings import SpectrogramSettings
from model.config import DiscriminatorConfig
from model.networks.attention import MultiHeadAttention

SETTINGS = SpectrogramSettings(sample_rate_hz=16000, n_fft=128, hop_samples=32, win_samples=128, n_mels=10)
DISCRIMINATOR = DiscriminatorConfig(periods=(2, 3), channels=2, max_channels=8, duration_channels=8)


def _clip(seed: int, n_samples: int, text: str) -> Clip:
    return Clip("clip", text, np.random.default_rng(seed).integers(-3000, 3000, n_samples).astype(np.int16))


def _narrow():
    model, _, training = train_step.full_size()
    narrow = dataclasses.replace(
        model,
        inter_channels=8,
        hidden_channels=16,
        filter_channels=16,
        n_layers=2,
        speaker_layer_index=1,
        flow_layers=1,
        n_flows=2,
        posterior_layers=1,
        sdp_channels=8,
        duration_channels=8,
        speaker_channels=8,
        spectrogram_channels=65,
        hop_samples=32,
        segment_frames=32,
        upsample_rates=(8, 4),
        upsample_kernel_sizes=(16, 8),
        upsample_initial_channels=8,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3),),
        bert_channels={"ZH": 4},
    )
    return narrow, DISCRIMINATOR, training


def test_both_sides_have_equal_losses_over_a_step():
    networks = _narrow()
    batch = train_step.make_batch([_clip(0, 32 * 60, "hello"), _clip(1, 32 * 80, "goodbye")], SETTINGS, networks[0])
    assert batch.phone_lengths.tolist() == [11, 15]
    assert train_step.compare_losses(*networks, SETTINGS, batch) < train_step.TOLERANCE


@pytest.mark.parametrize("length", [1, 3, 5, 9])
def test_plain_attention_is_attention(length):
    ours = MultiHeadAttention(8, 8, 2, window=4)
    plain = plain_networks.PlainAttention(8, 8, 2, window=4)
    plain.load_state_dict(ours.state_dict())
    inputs = torch.randn(2, 8, length, generator=torch.Generator().manual_seed(0))
    blocked = torch.zeros(2, 1, length, length, dtype=torch.bool)
    blocked[1, :, :, length // 2 + 1 :] = True
    torch.testing.assert_close(plain(inputs, inputs, blocked), ours(inputs, inputs, blocked), rtol=1e-4, atol=1e-6)


def test_the_full_size_networks_are_the_reference_presets():
    model, discriminator, training = train_step.full_size()
    assert (model.hidden_channels, model.decoder, model.flow, model.use_sdp) == (192, "hifigan", "transformer", True)
    assert discriminator.use_duration_discriminator
    assert training.adversarial_start_step == 0
