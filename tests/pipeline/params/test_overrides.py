"""Overrides: names and values are checked, and the stages read the values that were written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import dumps_yaml

from pipeline.params.overrides import OverrideError, apply_overrides, check_params, main, parse_override
from stages.common.command import read_params
from stages.common.errors import ParamsError
from tests.small_corpus import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    return tmp_path


def value(folder: Path, path: str) -> Any:
    found: Any = read_params(folder / "params.yaml")
    for key in path.split("."):
        found = found[key]
    return found


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("train.optimisation.learning_rate", "1e-4", 1e-4),
        ("train.optimisation.learning_rate", "1e-5", 1e-5),
        ("train.optimisation.steps", "200", 200),
        ("split.salt", "'7'", "7"),
        ("evaluate.hear", "[mos]", ["mos"]),
        ("train.metrics", "{every: 1, utterances: 2}", {"every": 1, "utterances": 2}),
        ("corpus.max_utterances", "null", None),
        ("train.optimisation.betas", "[0.9, 0.99]", [0.9, 0.99]),
        ("corpus.source_note", "a = b; rm -rf / $(x) `y`", "a = b; rm -rf / $(x) `y`"),
        ("train.model.istft_layers", "3", 3),
    ],
)
def test_a_stage_reads_the_value_of_an_override(folder: Path, path: str, text: str, expected: Any) -> None:
    apply_overrides(folder, None, [f"{path}={text}"])
    assert value(folder, path) == expected and type(value(folder, path)) is type(expected)
    check_params(folder / "params.yaml")
    assert (folder / "params.yaml").read_text(encoding="utf-8").count("#") > 40, "the comments are gone"


def test_overrides_apply_after_the_preset_and_the_last_one_wins(folder: Path) -> None:
    apply_overrides(folder, "smoke", ["train.optimisation.steps=5", "train.optimisation.steps=6"])
    assert value(folder, "preset") == "smoke" and value(folder, "train.optimisation.steps") == 6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.optimisation.step=3", r"train.optimisation has no 'step'; valid: steps,"),
        ("trains.steps=3", "params.yaml has no 'trains'"),
        ("train.ranks.deep=3", "train.ranks is a value, not a section"),
        ("train=3", "train is not a parameter"),
        ("preset=smoke", "a preset by --preset"),
        ("train.ranks", "is not an override"),
        ("=3", "is not an override"),
        ("train..ranks=3", "is not an override"),
        ("split.salt=[", "the value is not valid YAML"),
        ("split.salt=!!python/object/apply:os.system ['true']", "the value is not valid YAML"),
        ("--help", "is not an override"),
        ("split.salt=" + "[" * 3000, "nested more than 10 deep"),
        ("split.salt=" + "- " * 1500 + "x", "nested more than 10 deep"),
        ("split.salt=" + "{a: " * 500 + "}" * 500, "nested more than 10 deep"),
        ("split.salt=[&a [x, x], &b [*a, *a], [*b, *b]]", "without YAML's anchors and aliases"),
        ("split.salt=" + "[" + "1," * 200_000 + "]", "400013 characters, at most 4000 are allowed"),
        ("split.salt=2001-99-99", "the value is not valid YAML: month must be in"),
    ],
)
def test_an_invalid_override_is_an_error_and_nothing_is_written(folder: Path, override: str, message: str) -> None:
    before = (folder / "params.yaml").read_bytes()
    with pytest.raises(OverrideError, match=message):
        apply_overrides(folder, None, ["train.optimisation.steps=3", override])
    assert (folder / "params.yaml").read_bytes() == before


def test_an_unknown_preset_is_an_error(folder: Path) -> None:
    with pytest.raises(OverrideError, match=r"unknown preset '../../etc'; valid: laptop"):
        apply_overrides(folder, "../../etc", [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.optimisation.steps=many", r"train: optimisation\.steps should be a valid integer, found 'many'"),
        ("evaluate.hear=[ears]", "hear has ears; valid: mos"),
        ("split.salt=7", "split: salt should be a valid string, found 7"),
    ],
)
def test_an_invalid_value_is_one_clear_line(
    folder: Path, override: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apply_overrides(folder, None, [override])
    with pytest.raises(ParamsError, match=message):
        check_params(folder / "params.yaml")
    monkeypatch.setattr("sys.argv", ["overrides", "--params", str(folder / "params.yaml")])
    assert main() == 1
    assert capsys.readouterr().err.startswith("error: params.yaml: ")


def test_a_value_may_contain_an_equals_sign() -> None:
    assert parse_override("corpus.source_note=a=b") == (("corpus", "source_note"), "a=b")


def test_the_number_format_of_dvc_stays_as_it_is(folder: Path) -> None:
    apply_overrides(folder, None, ["train.optimisation.learning_rate=1e-5"])
    assert dumps_yaml({"eps": 1e-9, "none": None}) == "eps: 1e-09\nnone:\n"
