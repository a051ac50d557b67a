"""Keep a Prefect worker of this clone running; with `--server`, also a local server with all flows deployed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import httpx
from prefect.client.orchestration import get_client

from model.printable import error_line, printable
from pipeline.deployments.deploy import HEARTBEAT_SECONDS, POOL, PROJECT, add_arguments, deploy
from pipeline.deployments.lost_runs import crash_lost_runs
from pipeline.processes.locks import exclusive_lock
from pipeline.processes.prefect_server import HOME, LOOPBACK, Api, Server, configured_server, server
from pipeline.processes.run import service

PORT = 4200
POLL_SECONDS = 0.5
RESTART_SECONDS = 2.0


class _Stop(Exception):
    """SIGTERM or SIGINT."""


def keep_worker(root: Path, api: Api, at_once: int | None) -> None:
    """Run a worker until this program is stopped; restart one that dies, after setting its runs to Crashed.

    Raises RuntimeError if a server ends that this program has started.
    """
    settings = {
        **api.environment(),
        PROJECT: str(root),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    }
    # Unique to this clone, to find its runs again. Prefect does not allow slashes.
    name = f"{socket.gethostname()} {root.name} {hashlib.sha256(bytes(root)).hexdigest()[:8]}"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    command += ["--limit", str(at_once)] if at_once else []
    while True:
        try:
            lost = asyncio.run(_crash_lost_runs(name))
        except httpx.HTTPError as error:
            sys.stderr.write(printable(f"waiting for the server of {api.address}: {error or type(error).__name__}\n"))
            time.sleep(RESTART_SECONDS)
            continue
        for run in lost:
            sys.stderr.write(printable(f"set to Crashed, since its worker is gone: {run}\n"))
        with service(command, log=root / HOME / "worker.log", settings=settings) as worker:
            while worker.poll() is None:
                if isinstance(api, Server) and api.process.poll() is not None:
                    raise RuntimeError(
                        f"the Prefect server ended; start again to resume (log: {root / HOME / 'server.log'})"
                    )
                time.sleep(POLL_SECONDS)
        log = root / HOME / "worker.log"
        sys.stderr.write(printable(f"the worker ended with status {worker.returncode}; restarting (log: {log})\n"))
        time.sleep(RESTART_SECONDS)


async def _crash_lost_runs(worker: str) -> list[str]:
    async with get_client() as client:
        return [run.name for run in await crash_lost_runs(client, worker)]


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker until interrupted."""
    parser = argparse.ArgumentParser(
        prog="voice-factory worker",
        description="Execute runs of the Prefect server of PREFECT_API_URL in this clone until interrupted; "
        "with --server, of a local server.",
    )
    add_arguments(parser)
    parser.add_argument(
        "--at-once",
        type=int,
        metavar="N",
        help="maximum number of concurrent runs of this worker (default: no limit)",
    )
    parser.add_argument("--server", action="store_true", help="also start a local server with all flows deployed")
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help=f"address of the server; who reaches it and knows its secret runs programs here (default: {LOOPBACK})",
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    options = parser.parse_args(argv)
    root = options.root.resolve()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    api = configured_server(root / HOME)
    if api is None and not options.server:
        sys.stderr.write("error: PREFECT_API_URL is not set; set it to the server, or start one with make serve\n")
        return 1
    try:
        with contextlib.ExitStack() as stack:
            busy = RuntimeError(f"a worker of {root} is already running; one worker executes several runs at once")
            stack.enter_context(exclusive_lock(root / HOME / "worker.lock", busy))
            if api is None or options.server:
                api = stack.enter_context(server(root / HOME, host=options.host, port=options.port))
            stack.enter_context(api.connected())
            if options.server:
                asyncio.run(deploy(root, api, options.gpus))
                page = api.address.removesuffix("/api")
                sys.stderr.write(printable(f"serving {root} on {page} (stop with Ctrl-C)\n"))
                sys.stderr.write(printable(f"the page asks once for: {api.secret}\n"))
            keep_worker(root, api, options.at_once)
    except _Stop:
        sys.stderr.write("stopped; finished stages are kept\n")
    except RuntimeError as error:
        sys.stderr.write(f"{error_line(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
