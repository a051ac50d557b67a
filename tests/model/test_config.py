"""Configurations: round trip, clear errors."""

import json
from dataclasses import replace

import pytest
import torch

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram_torch import torch_linear_spectrogram
from model.config import DiscriminatorConfig, ModelConfig
from model.settings import ConfigError
from model.training.discriminators import MultiPeriodDiscriminator
from model.training.fit import check_training_fit


@pytest.mark.parametrize("config", [ModelConfig(n_speakers=256), DiscriminatorConfig(periods=(2, 3))])
def test_config_survives_json(config):
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_defaults_are_valid():
    assert ModelConfig.from_dict({}) == ModelConfig()
    assert DiscriminatorConfig.from_dict({}) == DiscriminatorConfig()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 5}, "n_heads 5 does not divide hidden_channels 192; use 4, say"),
        ({"hop_samples": 256}, r"hop_samples 256 is not the product of upsample_rates .*\(512\)"),
        ({"upsample_kernel_sizes": [16, 16, 8, 2]}, "5 upsample_rates but 4 upsample_kernel_sizes"),
        ({"upsample_kernel_sizes": [15, 16, 8, 2, 2]}, "upsample kernel 15 does not fit rate 8"),
        ({"upsample_initial_channels": 100}, "cannot be halved 5 times"),
        ({"inter_channels": 81}, "inter_channels 81 is odd"),
        ({"flow": "residual", "flow_kernel_size": 4}, "flow_kernel_size 4 is even"),
        (
            {"decoder": "istft", "istft_n_fft": 1022},
            "istft_n_fft 1022 does not fit hop_samples 512; use an even number of at least 1024",
        ),
        ({"decoder": "istft", "istft_n_fft": 2047}, "istft_n_fft 2047 does not fit hop_samples 512"),
        (
            {"decoder": "istft", "istft_n_fft": 2, "hop_samples": 1},
            "istft_n_fft 2 does not fit hop_samples 1; use an even number of at least 4",
        ),
        (
            {"resblock_kernel_sizes": [], "resblock_dilation_sizes": []},
            "resblock_kernel_sizes is empty; give at least one kernel",
        ),
        ({"resblock_kernel_sizes": [3, 7]}, "2 resblock_kernel_sizes but 3 resblock_dilation_sizes"),
        ({"resblock_kernel_sizes": [3, 4, 5]}, "resblock kernel 4 must be odd"),
        ({"resblock_dilation_sizes": [[1], [1], []]}, r"resblock_dilation_sizes .* has an empty list"),
        (
            {"posterior_dilation_rate": 2},
            "posterior_dilation_rate 2 over posterior_layers 16 .* more than 4096 frames; use a rate of 1 or",
        ),
        ({"posterior_kernel_size": 4}, "posterior_kernel_size 4 is even"),
        ({"n_speakers": 0}, "n_speakers is 0 but speaker_channels 256; set speaker_channels to 0"),
        ({"n_speakers": 2, "speaker_channels": 0}, "n_speakers is 2 but speaker_channels 0"),
        ({"n_speakers": 2, "use_reference_encoder": True}, "use_reference_encoder needs n_speakers 0"),
        ({"speaker_layer_index": 6}, "speaker_layer_index 6 is not one of the 6 layers"),
        (
            {"bert_channels": {"": 4}},
            "bert_channels has a language ''; use a code of capital letters and digits, such as EN",
        ),
        ({"bert_channels": {"zh.cn": 4}}, "bert_channels has a language 'zh.cn'"),
        ({"bert_channels": {"forward": 4}}, "bert_channels has a language 'forward'"),
    ],
)
def test_impossible_model_is_refused_with_numbers(changes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_layers", 0),
        ("attention_window", -1),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("flow", "glow"),
        ("decoder", "wavernn"),
        ("resblock", "3"),
        ("upsample_rates", [8, -8]),
        ("resblock_dilation_sizes", [[1], [0]]),
        ("bert_channels", {"EN": 0}),
    ],
)
def test_a_value_out_of_range_is_refused(name, value):
    with pytest.raises(ConfigError, match=rf"^ModelConfig: {name}\S* should be "):
        ModelConfig.from_dict({name: value})


def test_all_conflicts_are_reported_at_once():
    with pytest.raises(ConfigError, match="n_heads 5 .*; inter_channels 81"):
        ModelConfig.from_dict({"n_heads": 5, "inter_channels": 81})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"periods": [2, 0]}, r"periods\[1\] should be greater than 0, found 0"),
        ({"channels": 0}, "channels should be greater than 0, found 0"),
        ({"periods": [], "use_scale": False}, "keep at least one"),
        ({"channels": 32, "max_channels": 16}, "max_channels 16 is below channels 32"),
    ],
)
def test_impossible_discriminators_are_refused_with_numbers(changes, message):
    with pytest.raises(ConfigError, match=message):
        DiscriminatorConfig.from_dict(changes)


SPECTROGRAM = SpectrogramSettings(sample_rate_hz=44100, n_fft=2048, hop_samples=512, win_samples=2048, n_mels=128)


def test_default_networks_and_spectrogram_go_together():
    check_training_fit(ModelConfig(), DiscriminatorConfig(), SPECTROGRAM)
    check_training_fit(ModelConfig(spectrogram_channels=128), DiscriminatorConfig(), SPECTROGRAM)


@pytest.mark.parametrize(
    ("changes", "discriminator", "spectrogram", "message"),
    [
        (
            {"segment_frames": 1},
            {},
            {},
            "segment_frames 1 of hop_samples 512 are 512 samples, too few for the spectrogram of n_fft 2048; "
            "use at least 2 frames",
        ),
        (
            {"segment_frames": 2},
            {"periods": (2, 2048)},
            {},
            "1024 samples, too few for the discriminator of period 2048; use at least 3 frames",
        ),
        ({}, {}, {"hop_samples": 256}, "hop_samples 512 is not the spectrogram's 256; make them equal"),
        (
            {"spectrogram_channels": 513},
            {},
            {},
            "spectrogram_channels 513 is neither n_mels 128 nor the 1025 frequencies of n_fft 2048",
        ),
        ({}, {}, {"n_mels": 1025}, "n_mels 1025 equals the 1025 frequencies"),
        (
            {"segment_frames": 1},
            {"periods": (1025,)},
            {},
            "too few for the spectrogram.*; segment_frames 1 .* too few for the discriminator",
        ),
    ],
)
def test_networks_that_cannot_be_trained_together_are_refused_with_numbers(
    changes, discriminator, spectrogram, message
):
    with pytest.raises(ConfigError, match=message):
        check_training_fit(
            ModelConfig(**changes), DiscriminatorConfig(**discriminator), replace(SPECTROGRAM, **spectrogram)
        )


def test_the_shortest_segment_that_is_accepted_can_be_judged_and_transformed():
    model = ModelConfig(segment_frames=2)
    discriminator = DiscriminatorConfig(channels=2, max_channels=4, periods=(2047,))
    check_training_fit(model, discriminator, SPECTROGRAM)
    waveform = torch.randn(1, 1, 2 * 512)
    assert all(output.logits.isfinite().all() for output in MultiPeriodDiscriminator(discriminator).outputs(waveform))
    assert torch_linear_spectrogram(waveform[0], SPECTROGRAM).shape == (1, 1025, 2)


def test_speaker_vector_exists_only_with_a_source():
    assert ModelConfig(n_speakers=0, speaker_channels=0).effective_speaker_channels == 0
    assert ModelConfig(n_speakers=0, use_reference_encoder=True).effective_speaker_channels == 256
