"""Golden cases of the networks: numbers of the reference, read from GOLDEN_MODEL or tests/golden/model."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.config import ModelConfig

RELATIVE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class GoldenCase:
    """Configuration, inputs, expected outputs and weights (published names) of one case."""

    config: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    state: dict[str, Tensor]

    def check(self, name: str, actual: Tensor, tolerance: float = RELATIVE_TOLERANCE) -> None:
        """Assert that the largest deviation is within `tolerance` of the largest expected value."""
        expected = self.outputs[name]
        assert actual.shape == expected.shape, f"{name}: {tuple(actual.shape)} for {tuple(expected.shape)}"
        scale = expected.double().abs().max().clamp_min(1e-12)
        error = (actual.double() - expected.double()).abs().max() / scale
        assert error <= tolerance, f"{name}: relative error {error:.3g} above {tolerance:g}"


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return Path(os.environ.get("GOLDEN_MODEL", Path(__file__).parents[1] / "golden" / "model"))


@pytest.fixture(scope="session")
def golden(golden_folder: Path) -> Callable[[str], GoldenCase]:
    index = json.loads((golden_folder / "index.json").read_text(encoding="utf-8"))

    def read(name: str) -> GoldenCase:
        parts: dict[str, dict[str, Tensor]] = {"in": {}, "out": {}, "state": {}}
        for key, tensor in load_file(golden_folder / f"{name}.safetensors").items():
            part, _, rest = key.partition(".")
            parts[part][rest] = tensor
        return GoldenCase(index[name]["config"], parts["in"], parts["out"], parts["state"])

    return read


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
        return ModelConfig(**{**values, **changes}).validate()

    return build


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
