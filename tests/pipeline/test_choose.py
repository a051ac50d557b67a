"""Choosing: the best kept checkpoint becomes `train.voice`, and nothing else of params.yaml changes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import choose
from pipeline.params.overrides import check_params
from stages.common.command import read_params
from stages.evaluate.checkpoints import write_checkpoints
from tests.small_corpus import ROOT

ROWS: tuple[dict[str, Any], ...] = (
    {"step": 750, "cer": 0.25, "mos": 3.5, "is_voice": "false"},
    {"step": 1000, "cer": 0.125, "mos": 3.0, "is_voice": "false"},
    {"step": 1250, "cer": 0.125, "mos": "", "is_voice": "true"},
    {"step": "average", "cer": 0.5, "mos": 3.75, "is_voice": "false"},
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project on the default preset whose evaluation measured four checkpoints."""
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    write(tmp_path, *ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(root: Path, *rows: dict[str, Any]) -> None:
    (root / "reports" / "evaluate").mkdir(parents=True, exist_ok=True)
    write_checkpoints(root / choose.CHECKPOINTS, [{"folder": "", "n_utterances": 16, **row} for row in rows])


@pytest.mark.parametrize(
    ("arguments", "voice", "said"),
    [
        (
            (),
            1000,
            "step 1000 is the best of 4 checkpoints by cer on 16 validation utterances: "
            "12.5\u202f% (the voice, step 1250: 12.5\u202f%)",
        ),
        (
            ("--by", "mos"),
            "average",
            "the average is the best of 4 checkpoints by mos on 16 validation utterances: "
            "3.75 (the voice, step 1250: –)",
        ),
    ],
)
def test_the_best_checkpoint_becomes_the_voice(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    voice: int | str,
    said: str,
) -> None:
    before = (project / "params.yaml").read_text(encoding="utf-8").splitlines()
    assert choose.main(arguments) == 0
    shown = capsys.readouterr().out
    assert said in shown and f"train.voice is now {voice}. `make run`" in shown
    after = (project / "params.yaml").read_text(encoding="utf-8").splitlines()
    assert [(old, new) for old, new in zip(before, after, strict=True) if old != new] == [
        ("  voice: last", f"  voice: {voice}")
    ]
    assert read_params(project / "params.yaml")["train"]["voice"] == voice


def test_a_step_is_one_that_the_train_stage_takes(project: Path) -> None:
    assert choose.main([]) == 0
    check_params(project / "params.yaml")


def test_the_best_that_is_the_voice_already_changes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, ROWS[0], ROWS[2])
    before = (project / "params.yaml").read_bytes()
    assert choose.main([]) == 0
    assert "step 1250 is the best" in (shown := capsys.readouterr().out) and "It is already the voice." in shown
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("rows", "by", "message"),
    [
        (
            None,
            "cer",
            "reports/evaluate/checkpoints.csv: no such file; set evaluate.checkpoint_utterances to 16, for example",
        ),
        (ROWS[2:3], "mos", "reports/evaluate/checkpoints.csv has no mos; add it to evaluate.hear and run again"),
    ],
)
def test_what_was_not_measured_is_one_clear_line(
    project: Path, capsys: pytest.CaptureFixture[str], rows: Any, by: str, message: str
) -> None:
    (project / choose.CHECKPOINTS).unlink()
    if rows:
        write(project, *rows)
    before = (project / "params.yaml").read_bytes()
    assert choose.main(["--by", by]) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}") and (project / "params.yaml").read_bytes() == before
