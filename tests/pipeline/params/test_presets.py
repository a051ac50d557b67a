"""Presets: valid for every stage, short, and reversible."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.audio.settings import SpectrogramSettings
from model.text.symbols import SymbolTable
from pipeline.params.overrides import check_params, params_type
from pipeline.params.presets import corpus_changes, load_preset, overlay, preset_names, switch_preset
from stages.common.command import load_section
from stages.train.manifest_source import CorpusFacts
from tests.small_corpus import ROOT

PRESETS = ROOT / "presets"
NAMES = ("laptop", "reference", "smoke", "trilingual", "voice")
MAX_LINES = 25


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of params.yaml."""
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml"))


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def repeated(changes: Any, base: Any, where: str = "") -> list[str]:
    """Return the names of all values that `changes` has in common with `base`."""
    if not isinstance(changes, dict) or not isinstance(base, dict):
        return [where] if changes == base else []
    return [name for key in set(changes) & set(base) for name in repeated(changes[key], base[key], f"{where}.{key}")]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_short_and_repeats_no_value_of_its_base(name: str) -> None:
    text = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
    changes = yaml.safe_load(text)
    assert len(text.splitlines()) <= MAX_LINES
    assert repeated(changes, load_preset(changes["based_on"], PRESETS).values) == []


def test_a_preset_holds_its_own_values_over_those_of_its_base(tmp_path: Path) -> None:
    presets = {
        "defaults": "split: {salt: a, min_seconds: 1}\ntrain: {model: {decoder: istft, istft_layers: 2, n_layers: 3}}",
        "small": "based_on: defaults\nrecordings: mine\ntrain: {model: {n_layers: 1}}",
        "other": "based_on: small\nsplit: {salt: b}\ntrain: {model: {decoder: x, istft_layers: null, x_layers: 4}}",
        "wrong": "based_on: defaults\nsplit: {pepper: b}",
        "old": "recordings: mine\nsplit: {salt: c}",
    }
    for name, text in presets.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    assert preset_names(tmp_path) == ["old", "other", "small", "wrong"]
    other = load_preset("other", tmp_path)
    assert other.corpus == "mine" and other.values == {
        "split": {"salt": "b", "min_seconds": 1},
        "train": {"model": {"decoder": "x", "n_layers": 1, "x_layers": 4}},
    }
    with pytest.raises(KeyError, match=r"split\.pepper is not a parameter of presets/defaults\.yaml, which has salt"):
        load_preset("wrong", tmp_path)
    old = load_preset("old", tmp_path)
    assert (old.values, old.corpus) == ({"split": {"salt": "c"}}, "mine"), "older commits have complete presets"


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_passes_every_stage(params: Path, name: str) -> None:
    switch_preset(name, folder=PRESETS, params_path=params)
    check_params(params)
    assert read(params)["preset"] == name
    corpus, bert, resample, spectrogram, train = (
        load_section(params, section, params_type(section))
        for section in ("corpus", "bert", "resample", "spectrogram", "train")
    )
    settings: SpectrogramSettings = spectrogram.settings(resample.sample_rate_hz)
    with_bert = any(source.kind != "none" for source in bert.encoders.values())
    speakers = ("allison", "gcin-3") if corpus.languages != ("EN",) else ("allison",)
    facts = CorpusFacts(settings, True, dict.fromkeys(bert.encoders, 384) if with_bert else {}, {}, speakers, "a note")
    model, discriminator = train.networks(facts, SymbolTable.reference())
    assert model.hop_samples == settings.hop_samples and discriminator.channels >= 1


def test_switching_there_and_back_gives_the_same_bytes(params: Path) -> None:
    for name in NAMES:
        switch_preset(name, folder=PRESETS, params_path=params)
        first = params.read_bytes()
        for other in NAMES:
            switch_preset(other, folder=PRESETS, params_path=params)
            switch_preset(name, folder=PRESETS, params_path=params)
            assert params.read_bytes() == first


def test_switching_back_to_laptop_restores_the_committed_file(params: Path) -> None:
    if read(params)["preset"] != "laptop":
        pytest.skip("params.yaml is not on the default preset")
    committed = params.read_bytes()
    switch_preset("smoke", folder=PRESETS, params_path=params)
    assert params.read_bytes() != committed
    switch_preset("laptop", folder=PRESETS, params_path=params)
    assert params.read_bytes() == committed


def test_switching_keeps_comments_and_the_users_own_values(params: Path) -> None:
    mine = (
        params.read_text(encoding="utf-8")
        .replace("corpus:\n", "corpus:\n  # mine\n", 1)
        .replace("salt: '0'", "salt: 'mine'")
    )
    params.write_text(mine, encoding="utf-8")
    switch_preset("reference", folder=PRESETS, params_path=params)
    assert "  # mine\n" in params.read_text(encoding="utf-8")
    assert read(params)["split"]["salt"] == "mine"


def test_the_trilingual_preset_selects_its_corpus_and_the_others_the_default_one(params: Path) -> None:
    default = read(params)["corpus"]
    switch_preset("trilingual", folder=PRESETS, params_path=params)
    values = read(params)
    assert values["corpus"]["recordings"] == "data/recordings/trilingual"
    assert set(values["corpus"]["languages"]) == set(values["bert"]["encoders"]) == {"ZH", "JP", "EN"}
    switch_preset("smoke", folder=PRESETS, params_path=params)
    assert {**read(params)["corpus"], "max_utterances": None} == {**default, "max_utterances": None}


def test_a_preset_that_names_no_recordings_keeps_the_users_own(params: Path) -> None:
    mine = params.read_text(encoding="utf-8").replace("data/recordings/asterisk-en", "/data/anna")
    params.write_text(mine, encoding="utf-8")
    for name in ("smoke", "reference", "laptop"):
        switch_preset(name, folder=PRESETS, params_path=params)
        assert read(params)["corpus"]["recordings"] == "/data/anna"
    switch_preset("trilingual", folder=PRESETS, params_path=params)
    assert read(params)["corpus"]["recordings"] == "data/recordings/trilingual"


def test_an_unknown_corpus_is_an_error(params: Path) -> None:
    with pytest.raises(ValueError, match="unknown ready-made corpus 'martian'; valid: asterisk-en, trilingual"):
        corpus_changes(read(params), "martian", PRESETS)


def test_the_error_of_an_unknown_preset_lists_the_valid_ones(params: Path) -> None:
    with pytest.raises(ValueError, match="unknown preset 'gpu'; valid: laptop, reference, smoke, trilingual, voice"):
        switch_preset("gpu", folder=PRESETS, params_path=params)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.params.presets", "gpu"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "choose from" in done.stderr and "laptop" in done.stderr


def test_an_overlay_cannot_add_a_parameter() -> None:
    with pytest.raises(KeyError, match=r"train\.stepz is not a parameter; valid: steps"):
        overlay({"train": {"steps": 1}}, {"train": {"stepz": 2}})


def test_architecture_sections_are_replaced_as_a_whole() -> None:
    values = {"train": {"model": {"a": 1}, "steps": 1}, "bert": {"encoders": {"EN": {"kind": "package", "name": "x"}}}}
    overlay(values, {"train": {"model": {"b": 2}, "steps": 3}, "bert": {"encoders": {"EN": {"kind": "none"}}}})
    assert values == {"train": {"model": {"b": 2}, "steps": 3}, "bert": {"encoders": {"EN": {"kind": "none"}}}}
