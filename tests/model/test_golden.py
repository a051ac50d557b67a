"""Parity: every case of the golden folder, every output of every case, and the key lists of full-size checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model.checkpoints.published import keys as published
from model.checkpoints.published.config import PublishedSizes, published_model_config
from model.config import DiscriminatorConfig
from model.synthesizer import Synthesizer
from model.training.discriminators import DurationDiscriminator, MultiPeriodDiscriminator
from tests.model.golden_cases import DEFAULT_FOLDER, GoldenCase, golden_folder, read_case, read_index
from tests.model.golden_comparisons import comparison_for


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_name" in metafunc.fixturenames:
        cases = list(read_index(golden_folder()))
        if not cases:
            raise pytest.UsageError(f"GOLDEN_MODEL: {golden_folder()}/index.json lists no case")
        metafunc.parametrize("case_name", cases)


@torch.no_grad()
def test_golden_case(case_name: str) -> None:
    folder = golden_folder()
    case = read_case(folder, case_name)
    compare = comparison_for(case_name)
    assert compare is not None, f"{case_name}: no comparison knows this kind of case"
    compare(case, folder)
    case.finish()


def test_golden_folder_holds_no_case_outside_its_index() -> None:
    folder = golden_folder()
    assert {path.stem for path in folder.glob("*.safetensors")} == set(read_index(folder))


def test_golden_cases_of_the_project_are_all_thirty() -> None:
    assert len(read_index(DEFAULT_FOLDER)) == 30


def test_an_output_that_nothing_compares_fails() -> None:
    case = GoldenCase("layer_norm", {}, {}, {"y": torch.zeros(2), "z": torch.zeros(2)}, {})
    case.check("y", torch.zeros(2))
    with pytest.raises(AssertionError, match="outputs that nothing compares: z"):
        case.finish()


@pytest.mark.parametrize("deviation", [2e-5, -2e-5, float("nan")])
def test_a_deviation_beyond_the_tolerance_fails(deviation: float) -> None:
    case = GoldenCase("layer_norm", {}, {}, {"y": torch.tensor([1.0, 10.0])}, {})
    case.check("y", torch.tensor([1.00009, 10.0]))
    with pytest.raises(AssertionError, match="relative error"):
        case.check("y", torch.tensor([1.0, 10.0 * (1 + deviation)]))
    with pytest.raises(AssertionError, match="shape"):
        case.check("y", torch.zeros(1, 2))


def test_golden_model_may_name_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = torch.tensor([2.0, 3.0])
    inputs = torch.tensor([[[1.0], [-1.0]]])
    expected = scale.view(1, 2, 1) * inputs / (1 + 0.5) ** 0.5
    tensors = {"in.x": inputs, "out.y": expected, "state.gamma": scale, "state.beta": torch.zeros(2)}
    save_file(tensors, tmp_path / "layer_norm_wide.safetensors")
    entry = {
        "config": {"channels": 2, "eps": 0.5},
        "call": "",
        "tensors": {"in.x": ["float32", [1, 2, 1]], "out.y": ["float32", [1, 2, 1]]},
    }
    (tmp_path / "index.json").write_text(json.dumps({"layer_norm_wide": entry, "unheard_of": entry}))
    monkeypatch.setenv("GOLDEN_MODEL", str(tmp_path))
    test_golden_case("layer_norm_wide")
    save_file(tensors, tmp_path / "unheard_of.safetensors")
    with pytest.raises(AssertionError, match="unheard_of: no comparison knows this kind"):
        test_golden_case("unheard_of")
    save_file({**tensors, "out.y": expected + 0.01}, tmp_path / "layer_norm_wide.safetensors")
    with pytest.raises(AssertionError, match="layer_norm_wide y: relative error"):
        test_golden_case("layer_norm_wide")
    save_file({**tensors, "out.z": expected.clone()}, tmp_path / "layer_norm_wide.safetensors")
    with pytest.raises(AssertionError, match=r"tensors differ from the index: \['out.z'\]"):
        test_golden_case("layer_norm_wide")


def test_a_missing_golden_folder_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN_MODEL", str(tmp_path / "nowhere"))
    with pytest.raises(
        pytest.UsageError, match=r"^GOLDEN_MODEL: .*nowhere has no index.json; name a folder of golden cases"
    ):
        golden_folder()


KEY_LISTS = {
    "generator": "G_full_keys.json",
    "discriminator": "D_keys.json",
    "duration_discriminator": "DUR_full_keys.json",
}


def key_list(kind: str) -> dict:
    """The keys and shapes of a published checkpoint: the folder's own list, or the project's where it has none."""
    path = golden_folder() / KEY_LISTS[kind]
    return json.loads((path if path.is_file() else DEFAULT_FOLDER / path.name).read_text(encoding="utf-8"))


def full_size(kind: str) -> nn.Module:
    """A network of the size that the generator's list says, without memory."""
    facts = key_list("generator")
    model = facts["model"]
    hop = torch.tensor(model["upsample_rates"]).prod().item()
    sizes = PublishedSizes(
        n_speakers=facts["n_speakers"],
        spectrogram_channels=facts["spec_channels"],
        hop_samples=hop,
        segment_frames=facts["segment_frames"],
        n_symbols=facts["n_vocab"],
    )
    config = published_model_config(model, sizes)
    with torch.device("meta"):
        if kind == "generator":
            return Synthesizer(config)
        if kind == "discriminator":
            return MultiPeriodDiscriminator(DiscriminatorConfig())
        return DurationDiscriminator(
            in_channels=config.hidden_channels,
            filter_channels=config.hidden_channels,
            speaker_channels=config.effective_speaker_channels,
        )


@pytest.mark.parametrize("kind", KEY_LISTS)
def test_golden_key_map_covers_full_size_checkpoints(kind: str) -> None:
    listed = key_list(kind)
    network = full_size(kind)
    state = {f"module.{key}": torch.empty(shape, device="meta") for key, shape in listed["state_dict"].items()}
    fitting, report = published.fit_reference_state(network, state, kind=kind)
    assert report.ok, str(report)
    assert len(fitting) == listed["n_tensors"]
    assert sum(parameter.numel() for parameter in network.parameters()) == listed["n_params"]


@pytest.mark.parametrize("kind", KEY_LISTS)
def test_golden_key_map_is_reversible(kind: str) -> None:
    for key in key_list(kind)["state_dict"]:
        assert published.to_reference_key(published.to_own_key(key, kind), kind) == key


@pytest.mark.parametrize("kind", KEY_LISTS)
def test_golden_key_list_without_a_key_or_with_one_more_is_no_fit(kind: str) -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in key_list(kind)["state_dict"].items()}
    lost = sorted(state)[len(state) // 2]
    state["extra.weight"] = state.pop(lost)
    _, report = published.fit_reference_state(full_size(kind), state, kind=kind)
    assert report.missing == (lost,)
    assert report.unexpected == ("extra.weight",)
