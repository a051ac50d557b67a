"""Golden cases of the networks: numbers of the reference, in the folder GOLDEN_MODEL or tests/golden/model."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

DEFAULT_FOLDER = Path(__file__).parents[1] / "golden" / "model"
RELATIVE_TOLERANCE = 1e-5


def golden_folder() -> Path:
    """Return the folder of the cases; pytest.UsageError when it has no index."""
    folder = Path(os.environ.get("GOLDEN_MODEL") or DEFAULT_FOLDER)
    if not (folder / "index.json").is_file():
        raise pytest.UsageError(
            f"GOLDEN_MODEL: {folder} has no index.json; name a folder of golden cases, or unset it for the default"
        )
    return folder


def read_index(folder: Path) -> dict[str, dict[str, Any]]:
    """Return case name → entry."""
    loaded: dict[str, dict[str, Any]] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return loaded


@dataclass
class GoldenCase:
    """Configuration, inputs, expected outputs and weights (published names) of one case; `compared` are outputs looked
    at.
    """

    name: str
    config: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    state: dict[str, Tensor]
    compared: set[str] = field(default_factory=set)

    def check(self, name: str, actual: Tensor, tolerance: float = RELATIVE_TOLERANCE) -> None:
        """Assert that the largest deviation is within `tolerance` of the largest expected value."""
        expected = self.outputs[name]
        assert actual.shape == expected.shape, (
            f"{self.name} {name}: shape {tuple(actual.shape)} for {tuple(expected.shape)}"
        )
        self.compared.add(name)
        if not expected.numel():
            return
        scale = expected.double().abs().max().clamp_min(1e-12)
        error = (actual.double() - expected.double()).abs().max() / scale
        assert error <= tolerance, f"{self.name} {name}: relative error {error:.3g} above {tolerance:g}"

    def finish(self) -> None:
        """Assert that no output was left uncompared."""
        assert self.outputs, f"{self.name}: has no outputs"
        left = sorted(set(self.outputs) - self.compared)
        assert not left, f"{self.name}: outputs that nothing compares: {', '.join(left)}"


def read_case(folder: Path, name: str) -> GoldenCase:
    """Read one case; its tensors must be those that the index lists."""
    entry = read_index(folder)[name]
    path = folder / f"{name}.safetensors"
    assert path.is_file(), f"{path}: missing though index.json lists it"
    parts: dict[str, dict[str, Tensor]] = {"in": {}, "out": {}, "state": {}}
    for key, tensor in load_file(path).items():
        part, _, rest = key.partition(".")
        assert part in parts, f"{path}: {key} is neither in., out. nor state."
        parts[part][rest] = tensor
    listed = set(entry.get("tensors", {}))
    if listed:
        found = {f"{part}.{key}" for part in ("in", "out") for key in parts[part]}
        assert found == listed, f"{name}: tensors differ from the index: {sorted(found ^ listed)}"
    return GoldenCase(name, entry["config"], parts["in"], parts["out"], parts["state"])
