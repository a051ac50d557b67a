"""Start a local Prefect server and run flows in the foreground."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from model.printable import error_line
from pipeline.processes.run import service

HOME = Path(".work/prefect")  # in the project: database and logs
LOOPBACK = "127.0.0.1"
ADDRESS = "address"  # file with the address of the running server
SECRET = "secret"  # file with the user name and password of the servers
CODE = Path(__file__).parents[2]
START_SECONDS = 90.0
# Concurrency slots survive a restart of the server, and those of crashed runs expire soon.
LIMITS = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
}
DRAIN_SECONDS = 10.0
ANY_PORT = {"PREFECT_SERVER_UI_API_URL": "/api"}  # the UI calls the address it was loaded from


@dataclass(frozen=True)
class Api:
    """Address of a server's API, and the secret that it asks for, None without one."""

    address: str
    secret: str | None

    def environment(self) -> dict[str, str]:
        """Return the environment variables of programs that use the server."""
        secret = {"PREFECT_API_AUTH_STRING": self.secret} if self.secret else {}
        return {"PREFECT_API_URL": self.address, **secret}

    def connected(self) -> AbstractContextManager[Any]:
        """Make this process use the server for the duration of the context."""
        return temporary_settings({PREFECT_API_URL: self.address, PREFECT_API_AUTH_STRING: self.secret})


@dataclass(frozen=True)
class Server(Api):
    """A running server and its process."""

    process: subprocess.Popen[bytes]


@contextmanager
def server(home: Path, *, host: str = LOOPBACK, port: int | None = None) -> Iterator[Server]:
    """Run a server for the duration of the context, its database, log and secret in `home`. Raises RuntimeError.

    The server does what everybody tells it who knows the secret, such as to run a program. No other site may use it.
    """
    if other := running_server(home):
        raise RuntimeError(
            f"a server with the database in {home} is already running: {other.address.removesuffix('/api')}"
        )
    port = port or free_port()
    log = home / "server.log"
    command = [sys.executable, "-m", "pipeline.processes.prefect_app", "--host", host, "--port", str(port)]
    secret, address = home_secret(home), f"http://{LOOPBACK if host == '0.0.0.0' else host}:{port}/api"
    guards = {
        "PREFECT_SERVER_API_AUTH_STRING": secret,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address.removesuffix("/api"),
    }
    settings = {**LIMITS, **ANY_PORT, **guards, "PREFECT_HOME": str(home.resolve()), "PYTHONPATH": str(CODE)}
    with service(command, log=log, settings=settings) as process:
        _wait_for(f"{address}/health", process, log)
        (home / ADDRESS).write_text(address, encoding="utf-8")
        try:
            yield Server(address, secret, process)
        finally:
            (home / ADDRESS).unlink(missing_ok=True)


def home_secret(home: Path) -> str:
    """Return the secret of the servers in `home`, which nobody else may enter; the first call draws it."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    path = home / SECRET
    with suppress(FileExistsError), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"voice:{secrets.token_urlsafe(24)}")
    return path.read_text(encoding="utf-8")


def running_server(home: Path) -> Api | None:
    """Return the running server that uses `home`; None without one."""
    with suppress(OSError):
        address = (home / ADDRESS).read_text(encoding="utf-8")
        if _answers(f"{address}/health"):
            return Api(address, home_secret(home))
    return None


def configured_server(home: Path) -> Api | None:
    """Return the server of PREFECT_API_URL, otherwise the running one that uses `home`; None without one.

    Its secret is that of PREFECT_API_AUTH_STRING, otherwise that of `home`, if the server uses it.
    """
    address, secret = os.environ.get("PREFECT_API_URL"), os.environ.get("PREFECT_API_AUTH_STRING")
    running = running_server(home)
    if not address or (not secret and running and address.rstrip("/") == running.address):
        return running
    return Api(address, secret)


@contextmanager
def existing_or_local_server(home: Path) -> Iterator[Api]:
    """Yield the configured server, or a new one with the database in `home`."""
    if existing := configured_server(home):
        yield existing
        return
    with server(home) as local:
        yield local


def run_on_server(flow: Callable[..., Any], root: Path, **parameters: Any) -> int:
    """Run an async flow in the foreground; return the exit status, with an error message on the error stream."""
    with existing_or_local_server(root / HOME) as api, api.connected():
        state: State = asyncio.run(flow(root=str(root), **parameters, return_state=True))
        # Threads send logs and events: they would block on a server that has stopped.
        APILogWorker.drain_all(timeout=DRAIN_SECONDS)
        EventsWorker.drain_all(timeout=DRAIN_SECONDS)
    if state.is_completed():
        return 0
    sys.stderr.write(f"{error_line(state.message)}\n")
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
