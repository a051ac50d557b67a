"""Supervised programs: their output line by line, and no process left however the caller ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.processes import supervisor
from pipeline.processes.environment import child_environment, dvc_command, run_module
from pipeline.processes.run import CommandFailed, run_command, service
from tests.small_corpus import ROOT
from tests.waiting import lives, wait_for

# Tells its own process, one in a session of its own, and one whose parent has ended; then sleeps.
FAMILY = """
import os, subprocess, sys, time
{first}
away = subprocess.Popen(["sleep", "600"], start_new_session=True)
start = "import subprocess as s; print(s.Popen(['sleep', '600'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
orphan = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True).stdout.strip()
print(os.getpid(), away.pid, orphan, flush=True)
{last}
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def run(code: str, log: Callable[[str], object] = print) -> list[str]:
    return asyncio.run(run_command(python(code), folder=Path.cwd(), log=log))


def test_output_comes_line_by_line_with_only_the_last_state_of_a_progress_bar() -> None:
    logged: list[str] = []
    lines = run(
        "print('one'); print('0%\\r50%\\r100%'); print(); print('no newline at the end ü', end='')", logged.append
    )
    assert lines == logged == ["one", "100%", "no newline at the end ü"]


def test_the_percentages_of_progress_bars_are_told() -> None:
    told: list[int] = []

    async def tell(percent: int) -> None:
        told.append(percent)

    code = (
        "import sys, time\nfor n in (10, 55):\n"
        "    sys.stderr.write(f'\\rtrain: {n:3d}%|##  | 1/2'); sys.stderr.flush(); time.sleep(0.3)"
    )
    asyncio.run(run_command(python(code), folder=Path.cwd(), log=print, progress=tell))
    assert told == [10, 55]


def test_a_failure_has_the_last_lines_and_the_status() -> None:
    with pytest.raises(CommandFailed, match=r"^one \| two \| three$") as failure:
        run("print('zero\\none\\ntwo\\nthree'); raise SystemExit(3)")
    assert failure.value.lines == ["zero", "one", "two", "three"]
    with pytest.raises(CommandFailed, match="ended with status 3 without output"):
        run("raise SystemExit(3)")
    with pytest.raises(CommandFailed, match=f"status {128 + signal.SIGKILL}"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


@pytest.mark.parametrize("first", ["", STUBBORN])
def test_cancelling_ends_all_that_a_program_started(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    async def cancel() -> None:
        code = FAMILY.format(first=first, last="time.sleep(600)")
        task = asyncio.ensure_future(
            run_command(python(code), folder=Path.cwd(), log=lambda line: told.extend(map(int, line.split())))
        )
        while not told:
            await asyncio.sleep(0.02)
        assert len(told) == 3 and all(map(lives, told))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert not any(map(lives, told))


def test_what_a_program_leaves_behind_ends_with_it() -> None:
    lines = run(FAMILY.format(first="", last=""))
    assert not any(lives(int(number)) for number in lines[0].split())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_holder_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """The flow's process, or the machine's memory killer, may end at any moment."""
    family = tmp_path / "family.py"
    family.write_text(FAMILY.format(first="", last="time.sleep(600)"), encoding="utf-8")
    holder = (
        f"import asyncio, sys\nfrom pathlib import Path\nfrom pipeline.processes.run import run_command\n"
        f"command = [sys.executable, {str(family)!r}]\n"
        f"asyncio.run(run_command(command, folder=Path('.'), log=lambda line: print(line, flush=True)))"
    )
    with subprocess.Popen(python(holder), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [int(each) for each in process.stdout.readline().split()]
        assert len(told) == 3 and all(map(lives, told))
        process.send_signal(number)
    wait_for(lambda: not any(map(lives, told)), "the family to end", supervisor.GRACE_SECONDS + 10)


def test_a_service_lives_as_long_as_its_context(tmp_path: Path) -> None:
    code = FAMILY.format(first="", last="time.sleep(600)")
    log = tmp_path / "logs" / "service.log"
    with service(python(code), log=log) as process:
        wait_for(lambda: log.read_text(encoding="utf-8").endswith("\n"), "the service")
        told = [int(each) for each in log.read_text(encoding="utf-8").split()]
        assert process.poll() is None and all(map(lives, told))
    assert not any(map(lives, told))


def test_started_programs_use_this_python_and_report_to_nobody() -> None:
    environment = child_environment()
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert environment["DVC_NO_ANALYTICS"] == "true" and environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert dvc_command("repro") == [sys.executable, "-m", "dvc", "repro"]


def test_a_modules_exit_status_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "five.py").write_text("raise SystemExit(5)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run_module("five") == 5
