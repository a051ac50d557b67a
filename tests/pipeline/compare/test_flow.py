"""The compare flow on a real Prefect server: the files of the command, and the table as an artifact."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from pipeline.compare.compare import compare
from pipeline.compare.flow import compare_flow
from stages.common.errors import PipelineError
from tests.pipeline.compare.comparable_project import evaluation, start_project


@pytest.mark.slow  # needs a Prefect server of its own test worker
def test_the_flow_writes_the_files_of_the_command_and_the_table_as_an_artifact(
    prefect: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICE_WORK_DIR", str(tmp_path / "work"))
    project = start_project(tmp_path / "voice")
    project.commit(evaluation(seed=1), "first")
    project.commit(evaluation(seed=2, mos=0.4), "second")
    compare(project.root, ["first", "second"], tmp_path / "expected")
    verdicts = asyncio.run(compare_flow(["first", "second"], str(project.root), str(tmp_path / "out")))
    numbers = [
        json.loads((tmp_path / folder / "comparison.json").read_text(encoding="utf-8"))
        for folder in ("out", "expected")
    ]
    assert numbers[0] == numbers[1] and verdicts == numbers[0]["verdicts"]
    with get_client(sync_client=True) as client:
        artifact = next(artifact for artifact in client.read_artifacts() if artifact.key == "comparison")
    assert "| Naturalness (predicted MOS) |" in str(artifact.data) and "second against first" in str(artifact.data)
    with pytest.raises(PipelineError, match="'nowhere' is not a revision"):
        asyncio.run(compare_flow(["first", "nowhere"], str(project.root), str(tmp_path / "out")))
