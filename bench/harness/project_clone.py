"""A throw-away clone of the last commit, and the cost of commands that run in it as a user would run them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bench.harness.common import THREAD_SETTINGS
from pipeline.params.presets import load_preset, overlay

ROOT = Path(__file__).parents[2]
RECORDINGS = Path("data/recordings/asterisk-en")


class ProgramFailed(Exception):
    """A command in the clone failed; the message holds the last lines of its output."""


@dataclass(frozen=True)
class Cost:
    """Wall time and CPU time of a command and all its children, and their output."""

    wall_seconds: float
    cpu_seconds: float
    output: str


@dataclass(frozen=True)
class ProjectClone:
    """A clone in the folder `root`."""

    root: Path

    def run(self, *command: str) -> Cost:
        """Run `python -m …` in the clone, with the environment of a user; raises ProgramFailed."""
        of_benchmarks = {"VOICE_ROW_STORE", "VOICE_WORK_DIR", "VOICE_LOG_LEVEL", *THREAD_SETTINGS}
        inherited = {name: value for name, value in os.environ.items() if name not in of_benchmarks}
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env={**inherited, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise ProgramFailed(f"`{' '.join(command)}` ended with {done.returncode}: {done.stdout[-2000:]}")
        return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout)

    def change_params(self, changes: Mapping[str, Any]) -> None:
        """Write values over those of the clone's params.yaml."""
        path = self.root / "params.yaml"
        params = YAML().load(path)
        overlay(params, changes)
        YAML().dump(params, path)


def clone_laptop_project(root: Path) -> ProjectClone:
    """Clone the last commit to `root` with the laptop's corpus: the default recordings and the preset `laptop`.

    Training and evaluation are those of the preset `smoke`, so that the whole DAG runs in a few minutes.
    Raises FileNotFoundError where the default recordings are missing.
    """
    if not (ROOT / RECORDINGS / "transcripts.csv").is_file():
        raise FileNotFoundError(f"{RECORDINGS}: not there; `make recordings` fetches it")
    subprocess.run(["git", "clone", "-q", str(ROOT), str(root)], check=True)
    project = ProjectClone(root)
    laptop, smoke = (load_preset(name, ROOT / "presets").values for name in ("laptop", "smoke"))
    corpus = {"recordings": str(RECORDINGS), "transcripts": str(RECORDINGS / "transcripts.csv")}
    for changes in (laptop, {"corpus": corpus, "train": smoke["train"], "evaluate": smoke["evaluate"]}):
        project.change_params(changes)
    shutil.copytree(ROOT / RECORDINGS, root / RECORDINGS)
    return project
