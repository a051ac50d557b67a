"""What Prefect adds: the smoke preset from nothing as a flow, with a server that runs already, beside `dvc repro`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bench.common import Result
from bench.nothing_to_do import RECORDINGS
from bench.project_clone import ROOT, Cost, clone_project
from bench.speech import Clip
from pipeline.prefect_server import server

ALLOWED_SHARE, ALLOWED_SECONDS = 1.15, 10.0
ROUNDS = 2  # of which the faster counts: what else the machine does only adds
SIDES = {"flow": ("pipeline.flows",), "repro": ("dvc", "repro")}


def _run(folder: Path, *command: str) -> Cost:
    """Return the cost of a command in a new clone, on the smoke preset."""
    project = clone_project(folder)
    shutil.copytree(ROOT / RECORDINGS, project.root / RECORDINGS)
    project.run("pipeline.presets", "smoke")
    cost = project.run(*command)
    shutil.rmtree(folder)
    return cost


def flow_overhead(clips: list[Clip], scratch: Path) -> Result:
    """Wall seconds of the flow, its program's start included, and of `dvc repro`; the target is that and what is allowed beyond it."""
    del clips  # the default recordings themselves are wanted here
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    with server(scratch / "prefect") as own:
        os.environ["PREFECT_API_URL"] = own.address
        for number in range(ROUNDS):
            for name, command in SIDES.items():
                seconds[name].append(_run(scratch / f"{name}-{number}", *command).wall_seconds)
    ours, reference = min(seconds["flow"]), min(seconds["repro"])
    return Result(
        name="flow_overhead", ours=ours, reference=reference, ratio=None, limit_share=None, target=ALLOWED_SHARE * reference + ALLOWED_SECONDS,
        target_of="ours_at_most", unit="s of wall time", rounds=ROUNDS, note=f"clones of the last commit, smoke preset, nothing kept; {seconds}",
    )  # fmt: skip
