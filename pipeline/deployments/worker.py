"""A worker of this clone, kept alive; with `--server`, a Prefect server of its own with everything deployed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipeline.deployments.deploy import HEARTBEAT_SECONDS, POOL, PROJECT, add_arguments, deploy
from pipeline.deployments.lost_runs import crash_lost_runs
from pipeline.processes.locks import only_one
from pipeline.processes.prefect_server import HOME, LOOPBACK, Server, server
from pipeline.processes.run import service

PORT = 4200
POLL_SECONDS = 0.5
RESTART_SECONDS = 2.0


class _Stop(Exception):
    """Somebody asked this program to end."""


def keep_worker(root: Path, address: str, own: Server | None, at_once: int | None) -> None:
    """Run a worker until this program is asked to end; one that dies is started again, after its runs are marked as
    crashed.

    Raises RuntimeError where the server of its own ends.
    """
    settings = {
        "PREFECT_API_URL": address,
        PROJECT: str(root),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    }
    # Tells the runs of this clone's workers from all others; Prefect takes no slash.
    name = f"{socket.gethostname()} {root.name} {hashlib.sha256(bytes(root)).hexdigest()[:8]}"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    command += ["--limit", str(at_once)] if at_once else []
    while True:
        try:
            lost = asyncio.run(_crash_lost_runs(name))
        except httpx.HTTPError as error:
            sys.stderr.write(f"waiting for the server of {address}: {error or type(error).__name__}\n")
            time.sleep(RESTART_SECONDS)
            continue
        for run in lost:
            sys.stderr.write(f"marked as crashed, since the worker that did it is gone: {run}\n")
        with service(command, log=root / HOME / "worker.log", settings=settings) as worker:
            while worker.poll() is None:
                if own is not None and own.process.poll() is not None:
                    raise RuntimeError(
                        f"the Prefect server ended; start again to go on (log: {root / HOME / 'server.log'})"
                    )
                time.sleep(POLL_SECONDS)
        sys.stderr.write(
            f"the worker ended with status {worker.returncode}; another one is started (log: {root / HOME / 'worker.log'})\n"
        )
        time.sleep(RESTART_SECONDS)


async def _crash_lost_runs(worker: str) -> list[str]:
    async with get_client() as client:
        return [run.name for run in await crash_lost_runs(client, worker)]


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="voice-factory worker",
        description="Do the runs of the Prefect server of PREFECT_API_URL in "
        "this clone, until interrupted; with --server, of a server of its own.",
    )
    add_arguments(parser)
    parser.add_argument(
        "--at-once",
        type=int,
        metavar="N",
        help="how many runs this worker does side by side (default: no limit of its own)",
    )
    parser.add_argument("--server", action="store_true", help="start a server with everything deployed, too")
    parser.add_argument(
        "--host", default=LOOPBACK, help=f"where the server listens, which asks for no password (default: {LOOPBACK})"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    options = parser.parse_args(argv)
    root = options.root.resolve()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    address = os.environ.get("PREFECT_API_URL", "")
    if not address and not options.server:
        sys.stderr.write("error: PREFECT_API_URL is not set; it names the server (make serve starts one)\n")
        return 1
    try:
        with contextlib.ExitStack() as stack:
            busy = RuntimeError(f"a worker of {root} runs already; it does several runs at once")
            stack.enter_context(only_one(root / HOME / "worker.lock", busy))
            own = (
                stack.enter_context(server(root / HOME, host=options.host, port=options.port))
                if options.server
                else None
            )
            address = own.address if own else address
            stack.enter_context(temporary_settings({PREFECT_API_URL: address}))
            if own is not None:
                asyncio.run(deploy(root, address, options.gpus))
                sys.stderr.write(f"serving {root} on {address.removesuffix('/api')} (Ctrl-C ends it)\n")
            keep_worker(root, address, own, options.at_once)
    except _Stop:
        sys.stderr.write("stopped; what was finished is kept\n")
    except RuntimeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
