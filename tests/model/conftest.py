"""A model that runs in milliseconds, a batch to train it on, and a fixed seed for every test."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from model.config import ModelConfig
from model.training.dataset import Batch
from tests.model.training.test_trainer import SETTINGS, utterance
from tests.model.utterances import collate


@pytest.fixture
def small_config() -> Callable[..., ModelConfig]:
    """Builder of a model that runs in milliseconds; keyword arguments replace its numbers."""

    def build(**changes: Any) -> ModelConfig:
        values: dict[str, Any] = {
            "n_symbols": 20,
            "n_tones": 4,
            "n_languages": 3,
            "n_speakers": 3,
            "speaker_channels": 8,
            "bert_channels": {"EN": 6},
            "spectrogram_channels": 10,
            "inter_channels": 8,
            "hidden_channels": 16,
            "filter_channels": 32,
            "n_heads": 2,
            "n_layers": 3,
            "dropout": 0.0,
            "n_flows": 2,
            "flow_layers": 2,
            "posterior_layers": 2,
            "sdp_channels": 16,
            "sdp_flows": 2,
            "duration_channels": 16,
            "duration_dropout": 0.0,
            "decoder": "istft",
            "istft_channels": 16,
            "istft_layers": 1,
            "istft_filter_channels": 16,
            "istft_n_fft": 32,
            "hop_samples": 8,
            "segment_frames": 6,
        }
        return ModelConfig(**{**values, **changes})

    return build


@pytest.fixture
def batch() -> Batch:
    """Two made-up utterances of six and nine phones."""
    return collate([utterance(6, 128 * 30, 1), utterance(9, 128 * 40, 2)], [0, 1], {"EN": 6}, SETTINGS.hop_samples)


@pytest.fixture
def durations() -> torch.Tensor:
    """Frames of the batch's phones (2, 9)."""
    return torch.tensor([[5, 5, 5, 5, 5, 5, 0, 0, 0], [4, 4, 4, 4, 4, 5, 5, 5, 5]])


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
