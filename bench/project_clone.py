"""A clone of the project's last commit in a folder of its own, and its programs run there as a user would, with their cost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


class ProgramFailed(Exception):
    """A program of the clone ended with an error; the message holds its last lines."""


@dataclass(frozen=True)
class Cost:
    """What a program and its children took, and what they printed."""

    wall_seconds: float
    cpu_seconds: float
    output: str


@dataclass(frozen=True)
class ProjectClone:
    """A clone in the folder `root`."""

    root: Path

    def run(self, *command: str) -> Cost:
        """Run `python -m …` in the clone; raises ProgramFailed."""
        ours = ("VOICE_ROW_STORE", "VOICE_WORK_DIR", "VOICE_LOG_LEVEL")
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run([sys.executable, "-m", *command], cwd=self.root, env={**inherited, "PATH": path},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
        wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise ProgramFailed(f"`{' '.join(command)}` ended with {done.returncode}: {done.stdout[-2000:]}")
        return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout)


def clone_project(root: Path) -> ProjectClone:
    """Clone the last commit to `root`."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(root)], check=True)
    return ProjectClone(root)
