"""The frame of every stage's command: path flags, one params section, one-line errors."""

from __future__ import annotations

import errno
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from model.settings import Settings
from stages.common.command import configure_logging, run_command, run_stage
from stages.common.errors import PipelineError, StageError


@dataclass(frozen=True)
class CopyParams(Settings):
    times: int


def copy(source: Path, out_folder: Path, params: CopyParams) -> None:
    """Repeat a text.

    Reads source; writes out_folder/text.
    """
    if params.times < 1:
        raise StageError("anna/1", source, "nothing to write; raise copy.times")
    out_folder.mkdir()
    (out_folder / "text").write_text(source.read_text(encoding="utf-8") * params.times, encoding="utf-8")


@pytest.fixture
def params(workspace: Path) -> Path:
    (workspace / "in").write_text("ab", encoding="utf-8")
    path = workspace / "params.yaml"
    path.write_text("copy: {times: 2}\nbroken: {times: 0}\ntypo: {tmies: 1}\n", encoding="utf-8")
    return path


def test_log_lines_hold_no_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "root", logging.RootLogger(logging.WARNING))
    configure_logging()
    try:
        raise ValueError("\x1b[31mred")
    except ValueError:
        logging.root.exception("utterance %s: %s", "anna/\x1b[2J\u202e", "a\n12:00:00 INFO forged")
    written = capsys.readouterr().err
    assert r"utterance anna/\x1b[2J\u202e: a\n12:00:00 INFO forged" in written
    assert "Traceback" in written and r"ValueError: \x1b[31mred" in written and "\x1b" not in written


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "data/a.bin"),
            "error: copy: data/a.bin: No space left on device; free some space and run again",
        ),
        (OSError(errno.ENOSPC, "Error writing bytes to file. Detail: …"), "error: copy: No space left on device; free"),
        (OSError(errno.EROFS, "…", "data"), "error: copy: data: Read-only file system; mount it for writing"),
        (PermissionError(errno.EACCES, "…", "data"), "error: copy: data: Permission denied; change its owner"),
    ],
)
def test_a_disk_that_takes_no_more_is_one_line(error: OSError, message: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_command(fail, "copy")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"aaa: File name too long; shorten the name"):
        run_command(lambda: (tmp_path / ("a" * 256)).touch(), "copy")


def test_other_system_errors_are_bugs_and_keep_their_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_command(lambda: (tmp_path / "none").read_text(), "copy")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, section: str = "copy") -> None:
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    run_stage(copy, CopyParams, section)


PATHS = ("--source", "in", "--out-folder", "out")


@pytest.mark.usefixtures("params")
def test_flags_are_the_parameters_of_main_and_values_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, *PATHS)
    assert Path("out/text").read_text(encoding="utf-8") == "abab"


def test_another_params_file_can_be_named(monkeypatch: pytest.MonkeyPatch, params: Path) -> None:
    params.rename("other.yaml")
    run(monkeypatch, *PATHS, "--params", "other.yaml")
    assert Path("out/text").is_file()


@pytest.mark.usefixtures("params")
def test_the_help_names_every_flag_and_what_the_stage_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, "--help")
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(
        part in shown for part in ("python -m stages.copy", "--source", "--out-folder", "Repeat a text.", "--params")
    )


@pytest.mark.usefixtures("params")
def test_a_missing_flag_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, "--source", "in")
    assert caught.value.code == 2 and "--out-folder" in capsys.readouterr().err


@pytest.mark.usefixtures("params")
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("broken", "error: in, utterance 'anna/1': nothing to write; raise copy.times"),
        ("typo", "unknown tmies; valid: times"),
        ("absent", "section 'absent' is missing"),
    ],
)
def test_a_clear_error_is_one_line_and_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, section: str, message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *PATHS, section=section)
    assert isinstance(caught.value.code, str)  # sys.exit(text) prints it and exits with status 1
    assert caught.value.code.startswith("error: ") and message in caught.value.code and "\n" not in caught.value.code
    assert not Path("out").exists()


def test_anything_else_is_a_bug_and_keeps_its_traceback() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(broken, "x")


def test_an_interruption_says_how_to_continue() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="x: interrupted; finished work is kept"):
        run_command(interrupted, "x")


def test_errors_name_what_they_know() -> None:
    assert str(StageError("anna/1", "a.wav", "bad")) == "a.wav, utterance 'anna/1': bad"
    assert str(StageError(None, None, "bad")) == "bad"
    assert issubclass(StageError, PipelineError)
