"""Machine settings: the environment first, then machine.env, and typing errors are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.common.errors import ParamsError
from stages.rows.executors import engine
from stages.rows.machine_settings import worker_count


@pytest.fixture(autouse=True)
def no_settings(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VOICE_EXECUTOR", "VOICE_WORKERS"):
        monkeypatch.delenv(name, raising=False)


def test_processes_are_the_default() -> None:
    assert engine() == "processes"


def test_the_file_speaks_where_the_environment_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("machine.env").write_text("# my machine\n\nVOICE_EXECUTOR = ray\nVOICE_WORKERS=3\n", encoding="utf-8")
    assert (engine(), worker_count()) == ("ray", 3)
    monkeypatch.setenv("VOICE_EXECUTOR", "processes")
    assert (engine(), worker_count()) == ("processes", 3)


def test_an_unknown_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_EXECUTOR", "dask")
    with pytest.raises(ParamsError, match="VOICE_EXECUTOR=dask: expected one of processes, ray"):
        engine()


@pytest.mark.parametrize("line", ["VOICE_EXECUTER=ray", "ray"])
def test_a_line_that_is_no_setting_is_named(line: str) -> None:
    Path("machine.env").write_text(f"VOICE_WORKERS=2\n{line}\n", encoding="utf-8")
    with pytest.raises(ParamsError, match=f"machine.env, line 2: .*found '{line}'"):
        engine()
