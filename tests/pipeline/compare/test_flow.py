"""The compare flow on a real Prefect server: the same files as the program, and the table as an artifact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipeline.compare import flow as module
from pipeline.compare.compare import compare
from pipeline.processes.prefect_server import server
from tests.pipeline.compare.comparable_project import evaluation, start_project


@pytest.mark.slow  # a server starts and two flows run
def test_the_flow_writes_what_the_program_writes_and_leaves_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOICE_WORK_DIR", str(tmp_path / "work"))
    project = start_project(tmp_path / "voice")
    project.commit(evaluation(seed=1), "first")
    project.commit(evaluation(seed=2, mos=0.4), "second")
    compare(project.root, ["first", "second"], tmp_path / "expected")
    with server(tmp_path / "prefect") as own:
        address = own.address
        monkeypatch.setenv("PREFECT_API_URL", address)
        arguments = ["compare_flow", "first", "second", "--root", str(project.root), "--out", str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", arguments)
        assert module.main() == 0
        with temporary_settings({PREFECT_API_URL: address}), get_client(sync_client=True) as client:
            (artifact,) = client.read_artifacts()
        monkeypatch.setattr("sys.argv", [*arguments[:2], "nowhere", *arguments[3:]])
        assert module.main() == 1
        assert "'nowhere' is no revision" in capsys.readouterr().err
    numbers = [
        json.loads((tmp_path / folder / "comparison.json").read_text(encoding="utf-8"))
        for folder in ("out", "expected")
    ]
    assert numbers[0] == numbers[1]
    assert artifact.key == "comparison" and artifact.type == "markdown"
    assert "| Naturalness (predicted MOS) |" in str(artifact.data) and "second against first" in str(artifact.data)
