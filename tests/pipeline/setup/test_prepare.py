"""Preparation: the default recordings are fetched, one's own must exist."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.setup import prepare
from tests.small_corpus import ROOT

HUB = {"kind": "hub", "name": "nobody/no-such-model", "revision": "0" * 40, "layer": -3}


def write_params(recordings: str, transcripts: str, encoder: dict[str, Any] | None = None) -> None:
    corpus = {"recordings": recordings, "transcripts": transcripts, "languages": ["EN"]}
    encoders = {"EN": encoder or {"kind": "none"}, "ZH": HUB}
    Path("params.yaml").write_text(yaml.safe_dump({"corpus": corpus, "bert": {"encoders": encoders}}), encoding="utf-8")


@pytest.mark.usefixtures("workspace")
def test_recordings_of_ones_own_are_only_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "run_module", None)  # fetching would fail
    write_params("mine", "mine.csv")
    assert prepare.main() == 1
    assert capsys.readouterr().err == "error: mine: does not exist; set corpus.recordings in params.yaml\n"
    Path("mine").mkdir()
    assert prepare.main() == 1
    assert "mine.csv: does not exist; set corpus.transcripts" in capsys.readouterr().err
    Path("mine.csv").touch()
    assert prepare.main() == 0


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("recordings", list(prepare.READY_MADE))
def test_ready_made_recordings_are_fetched_or_made(monkeypatch: pytest.MonkeyPatch, recordings: str) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(prepare, "run_module", lambda *arguments: started.append(arguments) or 3)
    write_params(recordings, f"{recordings}/transcripts.csv")
    assert prepare.main() == 3, "the program's status is the user's"
    assert started == [(prepare.READY_MADE[recordings], "--out", recordings)]


@pytest.mark.usefixtures("workspace")
def test_an_encoder_that_cannot_be_had_ends_the_run_before_any_work_with_the_way_to_get_it() -> None:
    write_params("mine", "mine.csv", HUB)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.setup.prepare"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: ")
        and "hf download nobody/no-such-model" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


def test_every_ready_made_corpus_of_the_presets_has_its_program() -> None:
    corpora = [
        yaml.safe_load(path.read_text(encoding="utf-8"))["corpus"]
        for path in (ROOT / "presets" / "corpora").glob("*.yaml")
    ]
    assert {values["recordings"] for values in corpora} == set(prepare.READY_MADE)
    assert all(importlib.util.find_spec(module) for module in prepare.READY_MADE.values())
