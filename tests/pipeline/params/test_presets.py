"""Presets: overlays that fit every stage, and switching that leaves params.yaml as it was written."""

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
from pipeline.params.presets import available, corpus_changes, load, overlay, switch
from stages.bert.stage import BertParams
from stages.card.stage import CardParams
from stages.clean_text.stage import CleanTextParams
from stages.common.params import load_section
from stages.corpus.params import CorpusParams
from stages.evaluate.stage import EvaluateParams
from stages.resample.stage import ResampleParams
from stages.spectrogram.stage import SpectrogramParams
from stages.split.stage import SplitParams
from stages.train.manifest_source import CorpusFacts
from stages.train.settings import TrainParams
from tests.small_corpus import ROOT

PRESETS = ROOT / "presets"
NAMES = ("laptop", "reference", "smoke", "trilingual", "voice")
SECTIONS: dict[str, type[Any]] = {
    "corpus": CorpusParams,
    "resample": ResampleParams,
    "clean_text": CleanTextParams,
    "spectrogram": SpectrogramParams,
    "bert": BertParams,
    "split": SplitParams,
    "train": TrainParams,
    "evaluate": EvaluateParams,
    "card": CardParams,
}
FREE_SECTIONS = ("train.model", "train.discriminator", "bert.encoders")


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of params.yaml."""
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml"))


def keys(values: Any, where: str = "") -> set[str]:
    """Return dotted names of all values, but for those below the sections whose keys differ by architecture."""
    if not isinstance(values, dict) or where in FREE_SECTIONS:
        return {where}
    return set().union(*(keys(value, f"{where}.{name}".strip(".")) for name, value in values.items()))


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def test_the_presets_are_there() -> None:
    assert tuple(available(PRESETS)) == NAMES


def test_every_preset_sets_the_same_values() -> None:
    """Otherwise switching would leave a value of the preset before it behind."""
    found = {name: keys(load(name, PRESETS)) - {"recordings"} for name in NAMES}
    assert all(found[name] == found["smoke"] for name in NAMES)


def test_every_value_of_a_preset_exists_in_params() -> None:
    assert keys(read(PRESETS / "smoke.yaml")) <= keys(read(ROOT / "params.yaml"))


def test_every_ready_made_corpus_sets_the_same_values_of_params() -> None:
    found = [keys(read(path)) for path in (PRESETS / "corpora").glob("*.yaml")]
    assert len(found) == 2 and found[0] == found[1] <= keys(read(ROOT / "params.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_passes_every_stage(params: Path, name: str) -> None:
    switch(name, folder=PRESETS, params_path=params)
    sections = {section: load_section(params, section, kind) for section, kind in SECTIONS.items()}
    assert set(read(params)) == {"preset", *SECTIONS} and read(params)["preset"] == name
    settings: SpectrogramSettings = sections["spectrogram"].settings(sections["resample"].sample_rate_hz)
    with_bert = any(source.kind != "none" for source in sections["bert"].encoders.values())
    speakers = ("allison", "gcin-3") if sections["corpus"].languages != ("EN",) else ("allison",)
    facts = CorpusFacts(
        settings, True, dict.fromkeys(sections["bert"].encoders, 384) if with_bert else {}, {}, speakers, "a note"
    )
    model, discriminator = sections["train"].networks(facts, SymbolTable.reference())
    assert model.hop_samples == settings.hop_samples and discriminator.channels >= 1


def test_a_preset_based_on_another_holds_its_differences_alone() -> None:
    laptop, voice = load("laptop", PRESETS), load("voice", PRESETS)
    assert (
        voice["train"]["model"] == laptop["train"]["model"]
        and voice["train"]["optimisation"]["steps"] > laptop["train"]["optimisation"]["steps"]
    )
    assert "based_on" not in voice and "model" not in read(PRESETS / "voice.yaml")["train"]


def test_switching_there_and_back_gives_the_same_bytes(params: Path) -> None:
    for name in NAMES:
        switch(name, folder=PRESETS, params_path=params)
        first = params.read_bytes()
        for other in NAMES:
            switch(other, folder=PRESETS, params_path=params)
            switch(name, folder=PRESETS, params_path=params)
            assert params.read_bytes() == first


def test_params_yaml_is_what_its_preset_writes(params: Path) -> None:
    if read(params)["preset"] != "laptop":
        pytest.skip("params.yaml is not on the default preset")
    committed = params.read_bytes()
    switch("smoke", folder=PRESETS, params_path=params)
    assert params.read_bytes() != committed
    switch("laptop", folder=PRESETS, params_path=params)
    assert params.read_bytes() == committed


def test_switching_keeps_comments_and_ones_own_values(params: Path) -> None:
    mine = (
        params.read_text(encoding="utf-8")
        .replace("corpus:\n", "corpus:\n  # mine\n", 1)
        .replace("salt: '0'", "salt: 'mine'")
    )
    params.write_text(mine, encoding="utf-8")
    switch("reference", folder=PRESETS, params_path=params)
    assert "  # mine\n" in params.read_text(encoding="utf-8")
    assert read(params)["split"]["salt"] == "mine"


def test_the_trilingual_preset_brings_its_corpus_and_the_others_the_default_one(params: Path) -> None:
    default = read(params)["corpus"]
    switch("trilingual", folder=PRESETS, params_path=params)
    values = read(params)
    assert values["corpus"]["recordings"] == "data/recordings/trilingual"
    assert set(values["corpus"]["languages"]) == set(values["bert"]["encoders"]) == {"ZH", "JP", "EN"}
    switch("smoke", folder=PRESETS, params_path=params)
    assert {**read(params)["corpus"], "max_utterances": None} == {**default, "max_utterances": None}


def test_recordings_of_ones_own_stay_under_a_preset_that_names_none(params: Path) -> None:
    mine = params.read_text(encoding="utf-8").replace("data/recordings/asterisk-en", "/data/anna")
    params.write_text(mine, encoding="utf-8")
    for name in ("smoke", "reference", "laptop"):
        switch(name, folder=PRESETS, params_path=params)
        assert read(params)["corpus"]["recordings"] == "/data/anna"
    switch("trilingual", folder=PRESETS, params_path=params)
    assert read(params)["corpus"]["recordings"] == "data/recordings/trilingual"


def test_a_preset_that_names_an_unknown_corpus_is_refused(params: Path) -> None:
    with pytest.raises(ValueError, match="unknown ready-made corpus 'martian'; there are asterisk-en, trilingual"):
        corpus_changes(read(params), {"recordings": "martian"}, PRESETS)


def test_an_unknown_preset_lists_the_known_ones(params: Path) -> None:
    with pytest.raises(ValueError, match="unknown preset 'gpu'; there are laptop, reference, smoke, trilingual, voice"):
        switch("gpu", folder=PRESETS, params_path=params)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.params.presets", "gpu"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "choose from" in done.stderr and "laptop" in done.stderr


def test_an_overlay_cannot_add_a_parameter() -> None:
    with pytest.raises(KeyError, match=r"train\.stepz is not a parameter; there are steps"):
        overlay({"train": {"steps": 1}}, {"train": {"stepz": 2}})


def test_sections_whose_keys_differ_are_replaced_whole() -> None:
    values = {"train": {"model": {"a": 1}, "steps": 1}, "bert": {"encoders": {"EN": {"kind": "package", "name": "x"}}}}
    overlay(values, {"train": {"model": {"b": 2}, "steps": 3}, "bert": {"encoders": {"EN": {"kind": "none"}}}})
    assert values == {"train": {"model": {"b": 2}, "steps": 3}, "bert": {"encoders": {"EN": {"kind": "none"}}}}
