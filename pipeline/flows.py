"""Prefect flows over the same DAG that `dvc repro` runs.

DVC decides what is up to date; a flow starts only what changed, independent stages side by side, and shows the rest as
UpToDate. Stages run as subprocesses in sessions of their own, so that cancelling a flow leaves nothing behind.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed

from pipeline.dag import StageNode, changed_stages, read_dag
from pipeline.environment import child_environment, dvc_command
from pipeline.summary import markdown_summary

KILL_GRACE_SECONDS = 5.0
SERVER_START_SECONDS = 90.0
DRAIN_SECONDS = 10.0
UP_TO_DATE = "UpToDate"


class StageFailed(Exception):
    """A stage's command ended with an error; the message holds its last lines."""


@task(task_run_name="{name}")
async def run_stage(name: str, root: str, needs_run: bool) -> State | None:
    """Run one DVC stage, its output line by line in the run's log; UpToDate when nothing was to do."""
    if not needs_run:
        return Completed(name=UP_TO_DATE, message="nothing it depends on has changed")
    logger = get_run_logger()
    process = await asyncio.create_subprocess_exec(
        *dvc_command("--wait-for-lock", "repro", "--single-item", name), cwd=root, env=child_environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []
    try:
        async for line in _lines(process):
            lines.append(line)
            logger.info(line)
        if await process.wait() != 0:
            raise StageFailed(f"stage {name} failed: {' | '.join(lines[-3:])}")
    finally:
        await _end_group(process)
    if any(re.search(rf"Stage '{re.escape(name)}' didn't change", line) for line in lines):
        return Completed(name=UP_TO_DATE, message="DVC found nothing to do")
    return None


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    """Yield output lines; a progress bar's carriage returns end lines too, of which only the last is kept."""
    stream = process.stdout
    pending = b""
    while stream is not None and (chunk := await stream.read(4096)):
        *complete, pending = (pending + chunk).split(b"\n")
        for line in complete:
            text = line.rsplit(b"\r", 1)[-1].decode("utf-8", "replace").strip()
            if text:
                yield text
    if text := pending.rsplit(b"\r", 1)[-1].decode("utf-8", "replace").strip():
        yield text


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End whatever is left of a stage's session: first asked, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + KILL_GRACE_SECONDS
        while _group_lives(process.pid) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@flow(name="repro")
async def repro(root: str = ".") -> dict[str, str]:
    """Bring every stage of dvc.yaml up to date; returns the name of each stage's final state."""
    folder = Path(root).resolve()
    nodes = read_dag(folder)
    changed = changed_stages(folder)
    get_run_logger().info("stages: %s; changed: %s", ", ".join(nodes), ", ".join(sorted(changed)) or "none")
    finished: dict[str, asyncio.Future[State]] = {}

    async def bring_up_to_date(node: StageNode) -> State:
        before = [await finished[name] for name in node.upstream]
        if any(not state.is_completed() for state in before):
            raise StageFailed(f"stage {node.name} was not started: {', '.join(node.upstream)} did not all succeed")
        ran = any(state.name != UP_TO_DATE for state in before)
        return await _with_options(node)(node.name, str(folder), ran or node.name in changed, return_state=True)

    for name, node in nodes.items():
        finished[name] = asyncio.ensure_future(bring_up_to_date(node))
    results = await asyncio.gather(*finished.values(), return_exceptions=True)
    await acreate_markdown_artifact(markdown_summary(folder), key="repro-summary", description="what the stages kept and the metrics")
    failures = [str(result) for result in results if isinstance(result, Exception)]
    failures += [str(result.message) for result in results if isinstance(result, State) and not result.is_completed()]
    if failures:
        raise StageFailed("; ".join(failures))
    return {name: str(state.name) for name, state in zip(finished, results, strict=True)}  # type: ignore[union-attr]


def _with_options(node: StageNode):  # type: ignore[no-untyped-def]
    """Return the stage task with the retries, timeout and tags that dvc.yaml's `meta` gives."""
    return run_stage.with_options(
        retries=int(node.meta.get("retries", 0)), timeout_seconds=node.meta.get("timeout_seconds"), tags=list(node.meta.get("tags", [])),
    )  # fmt: skip


@contextmanager
def server(home: Path) -> Iterator[str]:
    """Yield the API address of PREFECT_API_URL, or of a server on the loopback interface that lives as long as the context."""
    if configured := os.environ.get("PREFECT_API_URL"):
        yield configured
        return
    home.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**child_environment(), "PREFECT_HOME": str(home.resolve())}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/health", process, home / "server.log")
        yield f"http://127.0.0.1:{port}/api"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(KILL_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SERVER_START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the Prefect server ended at once; see {log}")
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(address, timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the Prefect server did not answer within {SERVER_START_SECONDS:g} s; see {log}")


async def _run(root: str) -> State:
    state: State = await repro(root, return_state=True)
    return state


def main() -> int:
    """Run the repro flow here and now."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.flows", description="Run the DAG of dvc.yaml as a Prefect flow, with the server "
                                     "of PREFECT_API_URL or one on the loopback interface for as long as the run lasts.")  # fmt: skip
    parser.add_argument("--root", default=".", help="the project's folder (default: here)")
    root = parser.parse_args().root
    return run_on_server(Path(root), lambda: _run(root))


def run_on_server(root: Path, run: Callable[[], Coroutine[Any, Any, State]]) -> int:
    """Run a flow with the server of `server` and return the exit status, an error's message on the error stream."""
    with server(root / ".work" / "prefect") as address, temporary_settings({PREFECT_API_URL: address}):
        state = asyncio.run(run())
        # Logs and events are sent from threads: a server that stops first leaves them waiting for it.
        APILogWorker.drain_all(timeout=DRAIN_SECONDS)
        EventsWorker.drain_all(timeout=DRAIN_SECONDS)
    if state.is_completed():
        return 0
    sys.stderr.write(f"error: {state.message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
