"""Run a command and end it, with all its descendants, when standard input closes.

`python supervisor.py COMMAND …`: standard input is a pipe whose other end the caller keeps open and never writes to.
When the caller closes it or dies, even by SIGKILL, the command is terminated, then killed. Processes that the command
leaves running when it ends are ended too. On Linux, descendants in other sessions do not escape, since this program is
the parent of orphans (a child subreaper).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil

GRACE_SECONDS = 5.0
POLL_SECONDS = 0.05
_SET_CHILD_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants; without effect where the system does not support it."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """Terminate all descendants, and kill those left after GRACE_SECONDS."""
    terminated: set[psutil.Process] = set()
    deadline = time.monotonic() + GRACE_SECONDS
    while descendants := psutil.Process().children(recursive=True):
        for process in descendants:
            with suppress(psutil.NoSuchProcess):
                if time.monotonic() > deadline:
                    process.kill()
                elif process not in terminated:
                    process.terminate()
        terminated |= set(descendants)
        psutil.wait_procs(descendants, timeout=POLL_SECONDS)


def main() -> int:
    """Run the command of the arguments; return its exit status, 128 plus the signal's number if one ended it."""
    adopt_orphans()
    ending = threading.Lock()
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def end_at_eof() -> None:
        os.read(sys.stdin.fileno(), 1)
        with ending:
            end_descendants()

    def forward_signal(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward_signal)
    threading.Thread(target=end_at_eof, daemon=True).start()
    status = child.wait()
    with ending:
        end_descendants()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
