"""A command on a leash: it ends, with all that it started, as soon as whoever holds the leash lets go of it, even by
being killed.

`python leash.py COMMAND …` runs the command; its own standard input is the leash, a pipe whose other end the holder
keeps open
and never writes to. A holder that closes it, or dies in whatever way, ends the command: first by request, then by
force. Whatever
the command leaves running when it ends by itself is ended too. Processes in sessions of their own do not escape on
Linux, where
orphans become children of this program.
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
    """Become the parent of descendants whose own parent dies; does nothing where the system cannot."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """End all that descends from this process: asked until the grace is over, then killed."""
    asked: set[psutil.Process] = set()
    deadline = time.monotonic() + GRACE_SECONDS
    while descendants := psutil.Process().children(recursive=True):
        for process in descendants:
            with suppress(psutil.NoSuchProcess):
                if time.monotonic() > deadline:
                    process.kill()
                elif process not in asked:
                    process.terminate()
        asked |= set(descendants)
        psutil.wait_procs(descendants, timeout=POLL_SECONDS)


def main() -> int:
    """Run the command of the arguments; returns its exit status, 128 and the signal's number where one ended it."""
    adopt_orphans()
    ending = threading.Lock()
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def let_go() -> None:
        os.read(sys.stdin.fileno(), 1)
        with ending:
            end_descendants()

    def asked_to_end(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked_to_end)
    threading.Thread(target=let_go, daemon=True).start()
    status = child.wait()
    with ending:
        end_descendants()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
