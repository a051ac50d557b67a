"""`dvc repro` when nothing has changed, beside running the data stages again on rows that are all in the row store."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from bench.common import Result
from bench.speech import RECORDINGS, Clip

ROOT = Path(__file__).parent.parent
PROMISED_CPU_SECONDS = 3.0
ROUNDS = 3


def _cpu_seconds(project: Path, *command: str) -> float:
    """Run a program of the project and return the CPU seconds of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run([sys.executable, "-m", *command], cwd=project, env={**os.environ, "PATH": path}, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def nothing_to_do(clips: list[Clip], scratch: Path) -> Result:
    """CPU seconds of a `dvc repro split` that does nothing, and of one that runs all six data stages on stored rows."""
    del clips  # the recordings themselves are wanted here
    project = scratch / "project"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(project)], check=True)
    shutil.copytree(ROOT / RECORDINGS, project / RECORDINGS)
    _cpu_seconds(project, "pipeline.presets", "smoke")
    _cpu_seconds(project, "dvc", "repro", "split")
    samples = [(_cpu_seconds(project, "dvc", "repro", "split"), _cpu_seconds(project, "dvc", "repro", "-f", "split")) for _ in range(ROUNDS)]
    ours, reference = (statistics.median(side) for side in zip(*samples, strict=True))
    return Result(
        name="nothing_to_do", ours=ours, reference=reference, ratio=reference / ours, limit_share=None, target=PROMISED_CPU_SECONDS,
        target_of="ours_at_most", unit="CPU s", rounds=ROUNDS, note="a clone of the last commit, smoke preset, data stages",
    )  # fmt: skip
