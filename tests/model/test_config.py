"""Configurations: round trip, clear errors."""

import json
from dataclasses import replace

import pytest
import torch

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram_torch import torch_linear_spectrogram
from model.config import ConfigError, DiscriminatorConfig, ModelConfig
from model.training.discriminators import MultiPeriodDiscriminator
from model.training.fit import check_training_fit


@pytest.mark.parametrize("config", [ModelConfig(n_speakers=256), DiscriminatorConfig(periods=(2, 3))])
def test_config_survives_json(config):
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_defaults_are_valid():
    ModelConfig().validate()
    DiscriminatorConfig().validate()


def test_unknown_key_lists_valid_ones():
    with pytest.raises(ConfigError, match=r"unknown keys n_layer; valid ones: .*n_layers"):
        ModelConfig.from_dict({"n_layer": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 5}, "n_heads 5 does not divide hidden_channels 192; use 4, say"),
        ({"hidden_channels": -1, "n_heads": 2}, "hidden_channels is -1; it must be positive"),
        ({"hop_samples": 256}, r"hop_samples 256 is not the product of upsample_rates .*\(512\)"),
        ({"upsample_kernel_sizes": [16, 16, 8, 2]}, "5 upsample_rates but 4 upsample_kernel_sizes"),
        ({"upsample_kernel_sizes": [15, 16, 8, 2, 2]}, "upsample kernel 15 does not fit rate 8"),
        ({"upsample_initial_channels": 100}, "cannot be halved 5 times"),
        ({"inter_channels": 81}, "inter_channels 81 is odd"),
        ({"flow": "residual", "flow_kernel_size": 4}, "flow_kernel_size 4 is even"),
        ({"flow": "glow"}, "flow 'glow' is not one of transformer, residual"),
        ({"decoder": "wavernn"}, "decoder 'wavernn' is not one of hifigan, istft"),
        ({"upsample_rates": [-8, -8, 2, 2, 2]}, r"upsample_rates \(-8, -8, 2, 2, 2\) must all be positive"),
        ({"upsample_initial_channels": -64}, "upsample_initial_channels is -64; it must be positive"),
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
        ({"resblock_kernel_sizes": [3, 4, 5]}, "resblock kernel 4 must be odd and positive"),
        (
            {"resblock_dilation_sizes": [[1], [0, 1], []]},
            r"resblock dilations \(0, 1\) must be positive.*resblock dilations \(\) must",
        ),
        ({"resblock": "3"}, "resblock '3' is not one of 1, 2"),
        (
            {"posterior_dilation_rate": 2},
            "posterior_dilation_rate 2 over posterior_layers 16 .* more than 4096 frames; use a rate of 1 or",
        ),
        ({"posterior_kernel_size": 4}, "posterior_kernel_size 4 is even"),
        ({"attention_window": -1}, "attention_window -1 is negative"),
        ({"duration_dropout": float("nan")}, r"duration_dropout nan is outside \[0, 1\)"),
        ({"frame_prior_layers": -1}, "frame_prior_layers -1"),
        ({"segment_frames": 0}, "segment_frames is 0; it must be positive"),
        ({"n_speakers": 0}, "n_speakers is 0 but speaker_channels 256; set speaker_channels to 0"),
        ({"n_speakers": 2, "speaker_channels": 0}, "n_speakers is 2 but speaker_channels 0"),
        ({"n_speakers": 2, "use_reference_encoder": True}, "use_reference_encoder needs n_speakers 0"),
        ({"speaker_layer_index": 6}, "speaker_layer_index 6 is not one of the 6 layers"),
        ({"bert_channels": {"EN": 0}}, r"bert_channels\['EN'\] is 0"),
        (
            {"bert_channels": {"": 4}},
            "bert_channels has a language ''; use a code of capital letters and digits, such as EN",
        ),
        ({"bert_channels": {"zh.cn": 4}}, "bert_channels has a language 'zh.cn'"),
        ({"bert_channels": {"forward": 4}}, "bert_channels has a language 'forward'"),
        ({"dropout": 1.0}, "dropout 1.0 is outside"),
        ({"posterior_layers": 0}, "posterior_layers is 0"),
        ({"use_sdp": True, "sdp_flows": 0}, "use_sdp needs positive"),
    ],
)
def test_impossible_model_is_refused_with_numbers(changes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": "6"}, "n_layers must be int, found '6'"),
        ({"n_layers": True}, "n_layers must be int, found True"),
        ({"use_sdp": 1}, "use_sdp must be bool, found 1"),
        ({"upsample_rates": [8, "8"]}, r"upsample_rates\[1\] must be int, found '8'"),
        ({"bert_channels": ["EN"]}, "bert_channels must be Mapping"),
    ],
)
def test_wrong_type_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(changes)


def test_all_problems_are_reported_at_once():
    with pytest.raises(ConfigError, match="n_heads 5 .*; flow 'x'"):
        ModelConfig.from_dict({"n_heads": 5, "flow": "x"})
    with pytest.raises(
        ConfigError,
        match="unknown keys n_layer; .*; n_layers must be int, found '6'; dropout must be float, found None",
    ):
        ModelConfig.from_dict({"n_layer": 3, "n_layers": "6", "dropout": None})


def test_integer_is_accepted_where_a_float_is_meant():
    assert ModelConfig.from_dict({"dropout": 0}).dropout == 0.0


def test_discriminators_need_at_least_one_network():
    with pytest.raises(ConfigError, match="keep at least one"):
        DiscriminatorConfig.from_dict({"periods": [], "use_scale": False})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"periods": [2, 0]}, r"periods \(2, 0\) must be positive"),
        ({"channels": 0}, "channels is 0; it must be positive"),
        ({"channels": 32, "max_channels": 16}, "max_channels 16 is below channels 32"),
        ({"duration_channels": 0}, "duration_channels is 0"),
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
