"""Start a local Prefect server and run flows in the foreground."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipeline.processes.run import service

HOME = Path(".work/prefect")  # in the project: database and logs
LOOPBACK = "127.0.0.1"
ADDRESS = "address"  # file with the address of the running server
START_SECONDS = 90.0
# Concurrency slots survive a restart of the server, and those of crashed runs expire soon.
LIMITS = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
}
DRAIN_SECONDS = 10.0
ANY_PORT = {"PREFECT_SERVER_UI_API_URL": "/api"}  # the UI calls the address it was loaded from


@dataclass(frozen=True)
class Server:
    """A running server: the address of its API, and its process."""

    address: str
    process: subprocess.Popen[bytes]


@contextmanager
def server(home: Path, *, host: str = LOOPBACK, port: int | None = None) -> Iterator[Server]:
    """Run a server for the duration of the context, its database and log in `home`. Raises RuntimeError."""
    if other := running_server(home):
        raise RuntimeError(f"a server with the database in {home} is already running: {other.removesuffix('/api')}")
    port = port or free_port()
    log = home / "server.log"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
    with service(command, log=log, settings={**LIMITS, **ANY_PORT, "PREFECT_HOME": str(home.resolve())}) as process:
        address = f"http://{LOOPBACK if host == '0.0.0.0' else host}:{port}/api"
        _wait_for(f"{address}/health", process, log)
        (home / ADDRESS).write_text(address, encoding="utf-8")
        try:
            yield Server(address, process)
        finally:
            (home / ADDRESS).unlink(missing_ok=True)


def running_server(home: Path) -> str | None:
    """Return the API address of the running server that uses `home`; None without one."""
    with suppress(OSError):
        address = (home / ADDRESS).read_text(encoding="utf-8")
        if _answers(f"{address}/health"):
            return address
    return None


@contextmanager
def existing_or_local_server(home: Path) -> Iterator[str]:
    """Yield the API address of PREFECT_API_URL, of a running server that uses `home`, or of a new one."""
    if existing := os.environ.get("PREFECT_API_URL") or running_server(home):
        yield existing
        return
    with server(home) as local:
        yield local.address


def run_on_server(flow: Callable[..., Any], root: Path, **parameters: Any) -> int:
    """Run an async flow in the foreground; return the exit status, with an error message on the error stream."""
    with existing_or_local_server(root / HOME) as address, temporary_settings({PREFECT_API_URL: address}):
        state: State = asyncio.run(flow(root=str(root), **parameters, return_state=True))
        # Threads send logs and events: they would block on a server that has stopped.
        APILogWorker.drain_all(timeout=DRAIN_SECONDS)
        EventsWorker.drain_all(timeout=DRAIN_SECONDS)
    if state.is_completed():
        return 0
    sys.stderr.write(f"error: {state.message}\n")
    return 1


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the Prefect server exited at start; see {log}")
        if _answers(address):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the Prefect server did not answer within {START_SECONDS:g} s; see {log}")


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(address, timeout=2):
        return True
    return False
