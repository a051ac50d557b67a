"""Experiments as a Prefect flow: run the project with other parameters in its own clone, save a DVC experiment."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from prefect import flow, get_run_logger
from prefect.artifacts import acreate_table_artifact

from pipeline.experiments.clone import (
    ExperimentError,
    check_name,
    clone_project,
    copy_files_at,
    reserve,
    resolve_commit,
    saved_experiments,
)
from pipeline.params.overrides import OverrideError, apply_overrides
from pipeline.params.presets import PARAMS, PRESETS
from pipeline.processes.environment import dvc_command
from pipeline.processes.prefect_server import run_on_server
from pipeline.processes.run import CommandFailed, run_command
from pipeline.repro.events import emit_failure
from pipeline.repro.flow import repro
from stages.reporting.nested import flat

OVERRIDE_CHECKS = ("pipeline.params.overrides", "pipeline.overrides")  # the second in clones of older commits


class ExperimentFailed(Exception):
    """A failed run of an experiment; the message has the path of its clone."""


@dataclass(frozen=True)
class ExperimentSpec:
    """A commit of the project, and the preset and overrides that set its parameters."""

    commit: str
    preset: str | None
    overrides: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON values."""
        return {**asdict(self), "overrides": list(self.overrides)}


@flow(name="experiment", flow_run_name="experiment {name}", on_failure=[emit_failure], on_crashed=[emit_failure])
async def experiment(
    name: str,
    overrides: Sequence[str] = (),
    preset: str | None = None,
    rev: str = "HEAD",
    root: str = ".",
    push_to: str | None = None,
) -> dict[str, float]:
    """Run the project at `rev` with other parameters in its own clone and save it as the DVC experiment `name`.

    `overrides` are `section.key=value`. `push_to` is a git remote that the experiment is pushed to, with its outputs to
    the default DVC remote. Return the metrics. The clone of a failed, cancelled or killed run is kept, and the same run
    resumes in it.
    """
    folder, logger = Path(root).resolve(), get_run_logger()
    check_name(name)
    if name in saved_experiments(folder):
        raise ExperimentError(f"experiment {name} exists; choose another name, or remove it with dvc exp remove {name}")
    spec = ExperimentSpec(resolve_commit(folder, rev), preset, tuple(overrides))
    check_parameters(folder, spec)
    if changes := uncommitted_files(folder):
        logger.warning("uncommitted changes are not part of the experiment: %s", ", ".join(changes))
    with reserve(folder, name) as place:
        clone = await clone_project(folder, place, spec.to_json(), logger.info)
        try:
            await check_values(clone)
        except OverrideError:
            shutil.rmtree(place)  # nothing has run in it yet
            raise
        try:
            await repro.with_options(flow_run_name=f"repro {name}")(str(clone), detect_regression=False)
            await run_command(
                dvc_command("exp", "save", "--name", name, "--message", json.dumps(spec.to_json())),
                folder=clone,
                log=logger.info,
            )
            await run_command(dvc_command("exp", "push", "--no-cache", "origin", name), folder=clone, log=logger.info)
            if push_to is not None:
                await run_command(dvc_command("exp", "push", push_to, name), folder=folder, log=logger.info)
        except Exception as error:
            reason = str(error).removeprefix("error: ")
            raise ExperimentFailed(
                f"{name}: {reason} (clone kept in {clone}; run the same experiment again to resume)"
            ) from error
        figures = metrics(clone)
        shutil.rmtree(place)
    await acreate_table_artifact(
        [{"metric": key, "value": value} for key, value in figures.items()],
        key="experiment-metrics",
        description=f"{name}: {' '.join(overrides)}",
    )
    logger.info("saved; see `dvc exp show` and `dvc exp apply %s`", name)
    return figures


def check_parameters(root: Path, spec: ExperimentSpec) -> None:
    """Check preset and overrides against the parameters of the spec's commit. Raises OverrideError."""
    with tempfile.TemporaryDirectory() as scratch:
        copy_files_at(root, spec.commit, Path(scratch), PARAMS, *([PRESETS] if spec.preset is not None else []))
        apply_overrides(Path(scratch), spec.preset, spec.overrides)


async def check_values(clone: Path) -> None:
    """Check params.yaml with the clone's own code, if that commit has the check. Raises OverrideError."""
    module = next(
        (name for name in OVERRIDE_CHECKS if (clone / name.replace(".", "/")).with_suffix(".py").is_file()), None
    )
    if module is None:
        return
    try:
        await run_command([sys.executable, "-m", module], folder=clone, log=get_run_logger().debug)
    except CommandFailed as error:
        raise OverrideError(error.lines[-1].removeprefix("error: ") if error.lines else str(error)) from None


def uncommitted_files(root: Path) -> list[str]:
    """Return the tracked files that differ from the last commit."""
    with Repo(str(root)) as repo:
        staged, unstaged, _ = repo.scm.status(untracked_files="no")
    return sorted({str(path) for paths in staged.values() for path in paths} | {str(path) for path in unstaged})


def metrics(root: Path, revision: str | None = None) -> dict[str, float]:
    """Return the metrics of the workspace or a revision by dotted name."""
    with Repo(str(root)) as repo:
        shown = repo.metrics.show(revs=[revision] if revision else None, hide_workspace=revision is not None)
    files = shown[revision or ""].get("data", {})
    return {
        key: value
        for name in sorted(files)
        for key, value in flat(files[name].get("data") or {}).items()
        if isinstance(value, int | float)
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that experiments and sweeps share."""
    parser.add_argument("--preset", help="preset to start from (default: params.yaml of the revision)")
    parser.add_argument("--rev", default="HEAD", help="revision to run (default: HEAD)")
    parser.add_argument("--root", type=Path, default=Path("."), help="project folder (default: .)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one experiment in the foreground."""
    parser = argparse.ArgumentParser(
        prog="voice-factory experiment",
        description="Run the project with other parameters in its own clone, "
        "and save the result as a DVC experiment (dvc exp show).",
    )
    parser.add_argument("name", help="name of the experiment")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="overrides, such as train.optimisation.steps=200"
    )
    add_arguments(parser)
    parser.add_argument("--push-to", metavar="REMOTE", help="git remote to push the experiment to")
    return run_on_server(experiment, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
