"""The published configuration: what each of its keys means for our networks, its defaults included."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from model.audio.settings import SpectrogramSettings
from model.checkpoints.published.config import PublishedSizes, published_config, published_model_config
from model.config import ModelConfig
from model.settings import ConfigError
from tests.model.training.published_training import small_config

SIZES = PublishedSizes(n_speakers=4, spectrogram_channels=33, hop_samples=8, segment_frames=8)


def model_of(sizes: PublishedSizes = SIZES, without: tuple[str, ...] = (), **changes: Any) -> ModelConfig:
    section = {**small_config()["model"], **changes}
    return published_model_config({key: value for key, value in section.items() if key not in without}, sizes)


def test_the_default_model_is_the_full_size_one() -> None:
    published = {
        "inter_channels": 192,
        "hidden_channels": 192,
        "filter_channels": 768,
        "n_heads": 2,
        "n_layers": 6,
        "kernel_size": 3,
        "p_dropout": 0.1,
        "resblock": "1",
        "resblock_kernel_sizes": [3, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
        "upsample_rates": [8, 8, 2, 2, 2],
        "upsample_initial_channel": 512,
        "upsample_kernel_sizes": [16, 16, 8, 2, 2],
        "gin_channels": 256,
        "use_noise_scaled_mas": True,
    }
    sizes = PublishedSizes(n_speakers=1, spectrogram_channels=1025, hop_samples=512, segment_frames=32)
    assert published_model_config(published, sizes) == ModelConfig()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            {
                "dropout": 0.1,
                "speaker_channels": 8,
                "sdp_channels": 16,
                "flow": "transformer",
                "n_flows": 4,
                "flow_layers": 6,
                "n_speakers": 4,
            },
        ),
        ({"use_noise_scaled_mas": False}, {"noise_scaled": False}),
        ({"use_noise_scaled_mas": True}, {"noise_scaled": True}),
        ({"without": ("use_noise_scaled_mas",)}, {"noise_scaled": False}),
        ({"use_spk_conditioned_encoder": False}, {"speaker_layer_index": -1}),
        ({"without": ("use_spk_conditioned_encoder",)}, {"speaker_layer_index": 2}),
        ({"use_sdp": False}, {"use_sdp": False}),
        ({"n_flow_layer": 3, "n_layers_trans_flow": 5}, {"n_flows": 3, "flow_layers": 5}),
        ({"use_transformer_flow": False, "n_flow_layer": 3}, {"flow": "residual", "n_flows": 4, "flow_layers": 3}),
        ({"resblock": 1}, {"resblock": "1"}),
        (
            {"sizes": PublishedSizes(n_speakers=0, spectrogram_channels=33, hop_samples=8, segment_frames=8)},
            {"use_reference_encoder": True, "speaker_channels": 8},
        ),
    ],
)
def test_a_published_key_or_its_absence_means(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    config = model_of(**changes)
    assert {name: getattr(config, name) for name in expected} == expected


def test_a_voice_of_any_sample_rate_can_be_written_back() -> None:
    model = dataclasses.replace(model_of(), sample_rate_hz=16000, mel_fmin_hz=50.0, mel_fmax_hz=7600.0)
    settings = SpectrogramSettings(
        sample_rate_hz=16000, n_fft=64, hop_samples=8, win_samples=64, n_mels=10, mel_fmin_hz=50.0, mel_fmax_hz=7600.0
    )
    written = published_config(model, settings, add_blank=True, speakers=["a", "b", "c", "d"], posterior_input="linear")
    assert [written["data"][name] for name in ("sampling_rate", "mel_fmin", "mel_fmax")] == [16000, 50.0, 7600.0]


def test_missing_keys_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"model: no n_heads, upsample_rates"):
        model_of(without=("upsample_rates", "n_heads"))
