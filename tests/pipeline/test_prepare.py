"""Preparation: the default recordings are fetched, one's own must exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline import prepare


def write_params(recordings: str, transcripts: str) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"corpus": {"recordings": recordings, "transcripts": transcripts}}), encoding="utf-8")


@pytest.mark.usefixtures("workspace")
def test_recordings_of_ones_own_are_only_looked_at(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_the_default_recordings_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(prepare, "run_module", lambda *arguments: started.append(arguments) or 0)
    write_params(prepare.DEFAULT_RECORDINGS, f"{prepare.DEFAULT_RECORDINGS}/transcripts.csv")
    assert prepare.main() == 0
    assert started == [("stages.corpora.asterisk", "--out", prepare.DEFAULT_RECORDINGS)]
