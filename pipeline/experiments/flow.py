"""Experiments as a Prefect flow: parameters in, an experiment of the project out, each run in a clone of its own."""

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
    files_at,
    reserved,
    resolve,
    saved_experiments,
)
from pipeline.params.overrides import OverrideError, apply_overrides
from pipeline.params.presets import PARAMS, PRESETS
from pipeline.processes.environment import dvc_command
from pipeline.processes.prefect_server import run_on_server
from pipeline.processes.run import CommandFailed, run_command
from pipeline.repro.events import tell_failure
from pipeline.repro.flow import repro
from stages.reporting.nested import flat


class ExperimentFailed(Exception):
    """An experiment's run failed; the message says where its clone is kept."""


OVERRIDE_CHECKS = ("pipeline.params.overrides", "pipeline.overrides")  # the second in clones of older commits


@dataclass(frozen=True)
class Plan:
    """What an experiment is: a commit of the project, a preset and overrides of its parameters."""

    commit: str
    preset: str | None
    overrides: tuple[str, ...]

    def about(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        return {**asdict(self), "overrides": list(self.overrides)}


@flow(name="experiment", flow_run_name="experiment {name}", on_failure=[tell_failure], on_crashed=[tell_failure])
async def experiment(
    name: str,
    overrides: Sequence[str] = (),
    preset: str | None = None,
    rev: str = "HEAD",
    root: str = ".",
    push_to: str | None = None,
) -> dict[str, float]:
    """Run the project at `rev` with other parameters in a clone of its own, and save it as the DVC experiment `name`.

    `overrides` are `section.key=value`; `push_to` names a git remote that gets the experiment too, its outputs going to
    the default
    DVC remote. Returns the metrics. A run that fails, is cancelled or killed keeps its clone, and the same run goes on
    there.
    """
    folder, logger = Path(root).resolve(), get_run_logger()
    check_name(name)
    if name in saved_experiments(folder):
        raise ExperimentError(
            f"there is an experiment {name} already; choose another name, or remove it with dvc exp remove {name}"
        )
    plan = Plan(resolve(folder, rev), preset, tuple(overrides))
    check_parameters(folder, plan)
    if changes := uncommitted(folder):
        logger.warning("not part of the experiment, since uncommitted: %s", ", ".join(changes))
    with reserved(folder, name) as place:
        clone = await clone_project(folder, place, plan.about(), logger.info)
        try:
            await check_values(clone)
        except OverrideError:
            shutil.rmtree(place)  # nothing has run in it
            raise
        try:
            await repro.with_options(flow_run_name=f"repro {name}")(str(clone), judge=False)
            await run_command(
                dvc_command("exp", "save", "--name", name, "--message", json.dumps(plan.about())),
                folder=clone,
                log=logger.info,
            )
            await run_command(dvc_command("exp", "push", "--no-cache", "origin", name), folder=clone, log=logger.info)
            if push_to is not None:
                await run_command(dvc_command("exp", "push", push_to, name), folder=folder, log=logger.info)
        except Exception as error:
            reason = str(error).removeprefix("error: ")
            raise ExperimentFailed(f"{name}: {reason} (kept in {clone}; the same run goes on there)") from error
        found = metrics(clone)
        shutil.rmtree(place)
    await acreate_table_artifact(
        [{"metric": key, "value": value} for key, value in found.items()],
        key="experiment-metrics",
        description=f"{name}: {' '.join(overrides)}",
    )
    logger.info("saved: dvc exp show; dvc exp apply %s", name)
    return found


def check_parameters(root: Path, plan: Plan) -> None:
    """Check preset and overrides against the parameters of the plan's commit, before anything is started; raises
    OverrideError.
    """
    with tempfile.TemporaryDirectory() as scratch:
        files_at(root, plan.commit, Path(scratch), PARAMS, *([PRESETS] if plan.preset is not None else []))
        apply_overrides(Path(scratch), plan.preset, plan.overrides)


async def check_values(clone: Path) -> None:
    """Have the clone's own stages check its params.yaml, where it is new enough to have that; raises OverrideError."""
    module = next(
        (name for name in OVERRIDE_CHECKS if (clone / name.replace(".", "/")).with_suffix(".py").is_file()), None
    )
    if module is None:
        return
    try:
        await run_command([sys.executable, "-m", module], folder=clone, log=get_run_logger().debug)
    except CommandFailed as error:
        raise OverrideError(error.lines[-1].removeprefix("error: ") if error.lines else str(error)) from None


def uncommitted(root: Path) -> list[str]:
    """Return the tracked files that differ from the last commit."""
    with Repo(str(root)) as repo:
        staged, unstaged, _ = repo.scm.status(untracked_files="no")
    return sorted({str(path) for paths in staged.values() for path in paths} | {str(path) for path in unstaged})


def metrics(root: Path, revision: str | None = None) -> dict[str, float]:
    """Return the metrics of the workspace or of a revision by name, sections joined by dots."""
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
    parser.add_argument("--preset", help="a preset of presets/ to start from (default: the parameters as they are)")
    parser.add_argument("--rev", default="HEAD", help="the commit to run (default: the last)")
    parser.add_argument("--root", type=Path, default=Path("."), help="the project's folder (default: here)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one experiment in the foreground."""
    parser = argparse.ArgumentParser(
        prog="voice-factory experiment",
        description="Run the project with other parameters, in a "
        "clone of its own, and save the result as a DVC experiment (dvc exp show).",
    )
    parser.add_argument("name", help="the experiment's name")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="parameters, such as train.optimisation.steps=200"
    )
    add_arguments(parser)
    parser.add_argument("--push-to", metavar="REMOTE", help="a git remote that gets the experiment too")
    return run_on_server(experiment, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
