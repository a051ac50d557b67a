"""A Prefect server of one's own on the loopback interface, and flows that run here and now with it."""

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

HOME = Path(".work/prefect")  # in the project: database, logs
LOOPBACK = "127.0.0.1"
ADDRESS = "address"  # of the server that runs, in its folder
START_SECONDS = 90.0
# Slots of runs that a crash left unfinished are known after a restart, and free again soon.
LIMITS = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
}
DRAIN_SECONDS = 10.0
ANY_PORT = {"PREFECT_SERVER_UI_API_URL": "/api"}  # the pages ask whichever address they came from


@dataclass(frozen=True)
class Server:
    """A running server: the address of its API, and its process."""

    address: str
    process: subprocess.Popen[bytes]


@contextmanager
def server(home: Path, *, host: str = LOOPBACK, port: int | None = None) -> Iterator[Server]:
    """Yield a server that lives as long as the context, its database and log in `home`; raises RuntimeError."""
    if other := running_server(home):
        raise RuntimeError(f"a server with the database in {home} runs already: {other.removesuffix('/api')}")
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
    """Return the API address of the server that uses `home` at present; None where none does."""
    with suppress(OSError):
        address = (home / ADDRESS).read_text(encoding="utf-8")
        if _answers(f"{address}/health"):
            return address
    return None


@contextmanager
def given_or_own_server(home: Path) -> Iterator[str]:
    """Yield the API address of PREFECT_API_URL, of the server that uses `home` already, or of `server`."""
    if found := os.environ.get("PREFECT_API_URL") or running_server(home):
        yield found
        return
    with server(home) as own:
        yield own.address


def run_on_server(flow: Callable[..., Any], root: Path, **parameters: Any) -> int:
    """Run an async flow with the server of `given_or_own_server` and return the exit status, an error's message on the
    error stream.
    """
    with given_or_own_server(root / HOME) as address, temporary_settings({PREFECT_API_URL: address}):
        state: State = asyncio.run(flow(root=str(root), **parameters, return_state=True))
        # Logs and events are sent from threads: a server that stops first leaves them waiting for it.
        APILogWorker.drain_all(timeout=DRAIN_SECONDS)
        EventsWorker.drain_all(timeout=DRAIN_SECONDS)
    if state.is_completed():
        return 0
    sys.stderr.write(f"error: {state.message}\n")
    return 1


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the Prefect server ended at once; see {log}")
        if _answers(address):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the Prefect server did not answer within {START_SECONDS:g} s; see {log}")


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(address, timeout=2):
        return True
    return False
