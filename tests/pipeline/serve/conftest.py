"""A real server process with a real voice, on a free port."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.model.random_voices import write_small_voice

ROOT = Path(__file__).parents[3]
MAX_CHARACTERS = 2000
PATIENCE_SECONDS = 120


@pytest.fixture(scope="session")
def small_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a voice."""
    return write_small_voice(tmp_path_factory.mktemp("served") / "voice", style={"noise_scale": 0.25})


@pytest.fixture(scope="session")
def address(small_voice: Path) -> Iterator[str]:
    """The address of a service that speaks with the small voice."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "pipeline.serve.serve",
        "--voice",
        str(small_voice),
        "--port",
        str(port),
        "--max-characters",
        str(MAX_CHARACTERS),
    ]
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        _wait_until_ready(server, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=PATIENCE_SECONDS)


def _wait_until_ready(server: subprocess.Popen[str], address: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            httpx.get(f"{address}/healthz").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    server.kill()
    pytest.fail(f"the service did not start: {server.communicate()[1]}")
