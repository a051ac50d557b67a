"""`dvc repro` when nothing has changed, beside running the data stages again on rows that are all in the row store."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

from bench.common import Result
from bench.project_clone import ROOT, clone_project
from bench.speech import Clip

RECORDINGS = Path("data/recordings/asterisk-en")
PROMISED_CPU_SECONDS = 3.0
ROUNDS = 3


def nothing_to_do(clips: list[Clip], scratch: Path) -> Result:
    """CPU seconds of a `dvc repro split` that does nothing, and of one that runs all six data stages on stored rows."""
    del clips  # the default recordings themselves are wanted here
    project = clone_project(scratch / "project")
    shutil.copytree(ROOT / RECORDINGS, project.root / RECORDINGS)
    project.run("pipeline.presets", "smoke")
    project.run("dvc", "repro", "split")
    sides = (("dvc", "repro", "split"), ("dvc", "repro", "-f", "split"))
    samples = [[project.run(*command).cpu_seconds for command in sides] for _ in range(ROUNDS)]
    ours, reference = (statistics.median(side) for side in zip(*samples, strict=True))
    return Result(
        name="nothing_to_do", ours=ours, reference=reference, ratio=reference / ours, limit_share=None, target=PROMISED_CPU_SECONDS,
        target_of="ours_at_most", unit="CPU s", rounds=ROUNDS, note="a clone of the last commit, smoke preset, data stages",
    )  # fmt: skip
