"""Run programs from flows: output line by line, and no process left running however the flow ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from model.printable import printable
from pipeline.processes import supervisor
from pipeline.processes.environment import child_environment

TIMEOUT_SECONDS = 3 * supervisor.GRACE_SECONDS
SHOWN_LINES = 3  # of a failed program's output, in its error
KEPT_LINES = 200
_PERCENT = re.compile(r"(\d{1,3})%\|")  # of a progress bar


class CommandFailed(Exception):
    """A failed program; `lines` are the last of its output."""

    def __init__(self, command: Sequence[str], status: int, lines: Sequence[str]) -> None:
        self.lines = list(lines)
        super().__init__(
            " | ".join(self.lines[-SHOWN_LINES:]) or f"{' '.join(command)} ended with status {status} without output"
        )


async def run_command(
    command: Sequence[str],
    *,
    folder: Path,
    log: Callable[[str], object],
    progress: Callable[[int], Awaitable[None]] | None = None,
) -> list[str]:
    """Run a program in `folder`, pass every line of output to `log` and return the last ones. Raises CommandFailed.

    `progress` gets the percentages of progress bars. The program and all its descendants end when this coroutine is
    cancelled or this process dies.
    """
    process = await asyncio.create_subprocess_exec(
        *_supervised(command),
        cwd=folder,
        env=child_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        async for line in _lines(process, progress):
            lines.append(line)
            log(line)
        status = await process.wait()
    finally:
        await _end(process)
    if status != 0:
        raise CommandFailed(command, status, lines)
    return list(lines)


@contextmanager
def service(
    command: Sequence[str], *, log: Path, settings: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the duration of the context, its output appended to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            _supervised(command),
            env={**child_environment(), **(settings or {})},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _supervised(command: Sequence[str]) -> list[str]:
    return [sys.executable, "-I", str(Path(supervisor.__file__)), *command]


async def _lines(
    process: asyncio.subprocess.Process, progress: Callable[[int], Awaitable[None]] | None
) -> AsyncIterator[str]:
    """Yield output lines, of a progress bar its last state only."""
    stream = process.stdout
    pending = b""
    while stream is not None and (chunk := await stream.read(4096)):
        *complete, pending = (pending + chunk).split(b"\n")
        for line in complete:
            if text := _last_state(line):
                yield text
        if progress is not None and (shown := _PERCENT.findall(chunk.decode("utf-8", "replace"))):
            await progress(int(shown[-1]))
    if text := _last_state(pending):
        yield text


def _last_state(line: bytes) -> str:
    return printable(line.rsplit(b"\r", 1)[-1].decode("utf-8", "replace").strip())


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close the supervisor's input and wait until it has ended all processes."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), TIMEOUT_SECONDS)
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
