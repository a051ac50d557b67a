"""Configurations: round trip, clear errors."""

import json

import pytest

from model.config import ConfigError, DiscriminatorConfig, ModelConfig


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
        ({"n_heads": 5}, "n_heads 5 does not divide hidden_channels 192"),
        ({"hop_samples": 256}, r"hop_samples 256 is not the product of upsample_rates .*\(512\)"),
        ({"upsample_kernel_sizes": [16, 16, 8, 2]}, "5 upsample_rates but 4 upsample_kernel_sizes"),
        ({"upsample_kernel_sizes": [15, 16, 8, 2, 2]}, "upsample kernel 15 does not fit rate 8"),
        ({"upsample_initial_channels": 100}, "cannot be halved 5 times"),
        ({"inter_channels": 81}, "inter_channels 81 is odd"),
        ({"flow_kernel_size": 4}, "flow_kernel_size 4 is even"),
        ({"flow": "glow"}, "flow 'glow' is not one of transformer, residual"),
        ({"decoder": "wavernn"}, "decoder 'wavernn' is not one of hifigan, istft"),
        ({"decoder": "istft", "istft_n_fft": 256}, "istft_n_fft 256 is below hop_samples 512"),
        ({"n_speakers": 0}, "n_speakers is 0 but speaker_channels 256; set speaker_channels to 0"),
        ({"n_speakers": 2, "speaker_channels": 0}, "n_speakers is 2 but speaker_channels 0"),
        ({"n_speakers": 2, "use_reference_encoder": True}, "use_reference_encoder needs n_speakers 0"),
        ({"speaker_layer_index": 6}, "speaker_layer_index 6 is not one of the 6 layers"),
        ({"bert_channels": {"EN": 0}}, r"bert_channels\['EN'\] is 0"),
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


def test_integer_is_accepted_where_a_float_is_meant():
    assert ModelConfig.from_dict({"dropout": 0}).dropout == 0.0


def test_discriminators_need_at_least_one_network():
    with pytest.raises(ConfigError, match="keep at least one"):
        DiscriminatorConfig.from_dict({"periods": [], "use_scale": False})


def test_speaker_vector_exists_only_with_a_source():
    assert ModelConfig(n_speakers=0, speaker_channels=0).effective_speaker_channels == 0
    assert ModelConfig(n_speakers=0, use_reference_encoder=True).effective_speaker_channels == 256
