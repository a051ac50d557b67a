"""Machine settings, which never change a result: environment variables, or lines of an untracked file.

The file `machine.env` in the working folder holds NAME=VALUE lines; environment variables take precedence.
"""

from __future__ import annotations

import os
from pathlib import Path

from stages.common.errors import ParamsError

THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

FILE = Path("machine.env")
IN_FILE = ("VOICE_EXECUTOR", "VOICE_RAY_ADDRESS", "VOICE_WORKERS")


def setting(name: str, default: str = "") -> str:
    """Return a setting of `IN_FILE` from the environment, else from machine.env, else `default`; raises ParamsError."""
    return os.environ.get(name) or _from_file().get(name) or default


def worker_count() -> int:
    """Return VOICE_WORKERS, or the number of cores this process may use."""
    value = setting("VOICE_WORKERS")
    if not value:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not value.isdigit() or int(value) < 1:
        raise ParamsError(f"VOICE_WORKERS={value}: expected a whole number of workers, at least 1")
    return int(value)


def _from_file() -> dict[str, str]:
    if not FILE.is_file():
        return {}
    settings = {}
    for number, line in enumerate(FILE.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or name not in IN_FILE:
            raise ParamsError(
                f"{FILE}, line {number}: expected NAME=VALUE, NAME one of {', '.join(IN_FILE)}, found {line.strip()!r}"
            )
        settings[name] = value
    return settings
