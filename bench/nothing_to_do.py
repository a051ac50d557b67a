"""What does `dvc repro` cost when nothing has changed?

Measured in a throw-away clone of the last commit, on the laptop's corpus (the default recordings): the whole DAG runs
once, with the smoke preset's training and evaluation, then `dvc repro` again. CPU seconds are those of the whole
command with all its children, start-up included.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from bench.harness.common import Result
from bench.harness.project_clone import clone_laptop_project

TARGET_CPU_SECONDS = 1.5
ROUNDS = 5


def run(scratch: Path) -> list[Result]:
    """Measure `dvc repro` of a DAG that is up to date."""
    project = clone_laptop_project(scratch / "project")
    project.run("dvc", "repro")
    costs = [project.run("dvc", "repro") for _ in range(ROUNDS)]
    if any("Running stage" in cost.output for cost in costs):
        raise RuntimeError("a stage ran although nothing had changed")
    seconds = [cost.cpu_seconds for cost in costs]
    wall_seconds = statistics.median(cost.wall_seconds for cost in costs)
    note = f"{wall_seconds:.1f} s of wall time; {min(seconds):.2f} to {max(seconds):.2f} CPU s in {ROUNDS} runs"
    return [
        Result(
            name="nothing_to_do",
            ours=statistics.median(seconds),
            unit="CPU s",
            target=TARGET_CPU_SECONDS,
            target_of="ours_at_most",
            rounds=ROUNDS,
            note=note,
        )
    ]
