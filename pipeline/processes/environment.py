"""Environment of child processes: this Python's programs first on the PATH, analytics off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

QUIET = {
    "DVC_NO_ANALYTICS": "true",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def child_environment() -> dict[str, str]:
    """Return this process's environment with the running Python's programs first and analytics off."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **QUIET, "PATH": path, "PYTHONUNBUFFERED": "1"}


def dvc_command(*arguments: str) -> list[str]:
    """Return the command line that runs DVC with this Python."""
    return [sys.executable, "-m", "dvc", *arguments]


def run_module(module: str, *arguments: str) -> int:
    """Run a module as a program and return its exit status."""
    return subprocess.run([sys.executable, "-m", module, *arguments], env=child_environment()).returncode
