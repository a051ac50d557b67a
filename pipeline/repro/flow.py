"""The DAG of dvc.yaml as a Prefect flow.

DVC decides which stages are up to date; the flow runs the others, independent ones in parallel, and shows the rest as
UpToDate. A stage's retries, timeout and tags are its `meta` in dvc.yaml.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import Task

from pipeline.processes.environment import dvc_command
from pipeline.processes.prefect_server import run_on_server
from pipeline.processes.run import CommandFailed, run_command
from pipeline.repro.artifacts import create_artifacts
from pipeline.repro.dag import StageNode, changed_stages, locked_stages, order_lock, read_dag
from pipeline.repro.events import emit_failure, emit_regression
from stages.common.errors import PipelineError

UP_TO_DATE = "UpToDate"
PROGRESS_EVERY_SECONDS = 5.0


class StageFailed(Exception):
    """A failed stage; the message has the last lines of its output."""


class InputRejected(StageFailed):
    """A stage that reported an error in its input or parameters, which a retry cannot fix."""


@task(task_run_name="{name}")
async def run_stage(name: str, root: str, needs_run: bool) -> State | None:
    """Run one DVC stage with its output in the run's log; return UpToDate if there was nothing to do."""
    if not needs_run:
        return Completed(name=UP_TO_DATE, message="no dependency has changed")
    try:
        lines = await run_command(
            dvc_command("--wait-for-lock", "repro", "--single-item", name),
            folder=Path(root),
            log=get_run_logger().info,
            progress=_StageProgress(name).show,
        )
    except CommandFailed as error:
        errors = [line for line in error.lines if line.startswith("error: ")]
        message = f"stage {name} failed: {errors[-1].removeprefix('error: ') if errors else error}"
        raise (InputRejected if errors else StageFailed)(message) from None
    if any(re.search(rf"Stage '{re.escape(name)}' didn't change", line) for line in lines):
        return Completed(name=UP_TO_DATE, message="DVC found nothing to do")
    return None


class _StageProgress:
    """Progress artifact of a stage, updated from its progress bars."""

    def __init__(self, stage: str) -> None:
        self._key = f"{stage.replace('_', '-')}-progress"
        self._stage = stage
        self._next = 0.0
        self._artifact: object = None

    async def show(self, percent: int) -> None:
        """Show a percentage, at most once every PROGRESS_EVERY_SECONDS."""
        if time.monotonic() < self._next and percent < 100:
            return
        self._next = time.monotonic() + PROGRESS_EVERY_SECONDS
        if self._artifact is None:
            self._artifact = await acreate_progress_artifact(
                percent, key=self._key, description=f"current step of {self._stage}"
            )
        else:
            await aupdate_progress_artifact(self._artifact, percent)  # type: ignore[arg-type]


async def _is_retryable(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Return whether a retry of a failed stage could succeed."""
    return not isinstance(await state.aresult(raise_on_failure=False), InputRejected)


@flow(name="repro", on_failure=[emit_failure], on_crashed=[emit_failure])
async def repro(root: str = ".", detect_regression: bool = True) -> dict[str, str]:
    """Run every stage of dvc.yaml that is not up to date; return the name of each stage's final state.

    `detect_regression` emits an event if the voice is worse than the newest registered version.
    """
    folder = Path(root).resolve()
    nodes, locked = read_dag(folder), locked_stages(folder)
    changed = await asyncio.to_thread(changed_stages, folder)
    get_run_logger().info("stages: %s; changed: %s", ", ".join(nodes), ", ".join(sorted(changed)) or "none")
    finished: dict[str, asyncio.Future[State | None]] = {}

    async def bring_up_to_date(node: StageNode) -> State | None:
        """Return the stage's final state; None if it was not started because a dependency failed."""
        before = [await finished[name] for name in node.upstream]
        if any(state is None or not state.is_completed() for state in before):
            return None
        ran = any(state is not None and state.name != UP_TO_DATE for state in before)
        needs_run = ran or node.name in changed
        stage: Any = _with_options(node) if needs_run else run_stage
        state: State | None = await stage(node.name, str(folder), needs_run, return_state=True)
        return state

    for name, node in nodes.items():
        finished[name] = asyncio.ensure_future(bring_up_to_date(node))
    states = dict(zip(finished, await asyncio.gather(*finished.values()), strict=True))
    await asyncio.to_thread(order_lock, folder, locked)
    await create_artifacts(folder)
    problems = [
        await _problem(name, state) for name, state in states.items() if state is not None and not state.is_completed()
    ]
    if problems:
        waiting = [name for name, state in states.items() if state is None]
        raise StageFailed("; ".join([*problems, *([f"not started: {', '.join(waiting)}"] if waiting else [])]))
    if detect_regression:
        await _detect_regression(folder)
    return {name: str(state.name) for name, state in states.items() if state is not None}


async def _problem(stage: str, state: State) -> str:
    error = await state.aresult(raise_on_failure=False)
    return str(error) if isinstance(error, StageFailed) else f"stage {stage}: {state.name}: {error}"


async def _detect_regression(root: Path) -> None:
    logger = get_run_logger()
    try:
        for sentence in await asyncio.to_thread(emit_regression, root):
            logger.warning(sentence)
    except PipelineError as error:
        logger.warning("not compared with the accepted voice: %s", error)


def _with_options(node: StageNode) -> Any:
    """Return the stage task with the retries, timeout and tags that dvc.yaml's `meta` gives."""
    return run_stage.with_options(
        retries=int(node.meta.get("retries", 0)),
        retry_delay_seconds=float(node.meta.get("retry_delay_seconds", 0)),
        retry_condition_fn=_is_retryable,
        timeout_seconds=node.meta.get("timeout_seconds"),
        tags=list(node.meta.get("tags", [])),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the repro flow in the foreground."""
    parser = argparse.ArgumentParser(
        prog="voice-factory flow",
        description="Run the DAG of dvc.yaml as a Prefect flow, on the server of PREFECT_API_URL "
        "or on a local one that lasts as long as the run.",
    )
    parser.add_argument("--root", type=Path, default=Path("."), help="project folder (default: .)")
    return run_on_server(repro, parser.parse_args(argv).root)


if __name__ == "__main__":
    sys.exit(main())
