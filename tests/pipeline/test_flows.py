"""What the flows are made of: output line by line, and process groups that leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from pipeline import flows
from pipeline.environment import child_environment, dvc_command, run_module


async def start(code: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                                                start_new_session=True)  # fmt: skip


def test_output_comes_line_by_line_with_only_the_last_state_of_a_progress_bar() -> None:
    async def read() -> list[str]:
        process = await start(r"print('one'); print('0%\r50%\r100%'); print(); print('no newline at the end ü', end='')")
        lines = [line async for line in flows._lines(process)]
        await process.wait()
        return lines

    assert asyncio.run(read()) == ["one", "100%", "no newline at the end ü"]


def lives(process_id: int) -> bool:
    """Return whether a process runs (one that ended but was not collected does not)."""
    status = Path(f"/proc/{process_id}/stat")
    return status.exists() and status.read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_stages_children_end_with_it_even_if_they_ignore_the_first_request(stubborn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "KILL_GRACE_SECONDS", 1.0)
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    code = f"{ignore}import subprocess; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"

    async def cancel() -> tuple[int, int]:
        process = await start(code)
        assert process.stdout is not None
        child = int(await process.stdout.readline())
        assert lives(process.pid) and lives(child)
        await flows._end_group(process)
        await process.wait()
        return process.pid, child

    both = asyncio.run(cancel())
    deadline = time.monotonic() + 5
    while any(map(lives, both)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(lives, both))


def test_started_programs_use_this_python_and_report_to_nobody() -> None:
    environment = child_environment()
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert environment["DVC_NO_ANALYTICS"] == "true" and environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert dvc_command("repro") == [sys.executable, "-m", "dvc", "repro"]


def test_a_modules_exit_status_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "five.py").write_text("raise SystemExit(5)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run_module("five") == 5
