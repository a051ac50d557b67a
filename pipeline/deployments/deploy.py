"""Set up a Prefect server for the flows: work pool, limits, automations, the deployments of prefect.yaml."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from prefect.automations import Automation
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, DoNothing
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

from model.printable import error_line
from pipeline.processes.environment import child_environment
from pipeline.processes.prefect_server import HOME, Api, configured_server
from pipeline.repro.events import METRIC_WORSE, RUN_FAILED

POOL = "voice"
GPU_TAG = "gpu"
HEARTBEAT_SECONDS = 30  # the shortest that Prefect accepts
SILENT_SECONDS = 900  # longer than a restart of the server
PROJECT = "VOICE_PROJECT"  # environment variable of a worker: its clone


async def set_up_server(client: PrefectClient, gpus: int) -> None:
    """Create or update limits and automations, and create the pool unless it exists."""
    try:
        await client.read_work_pool(POOL)
    except ObjectNotFound:
        await client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", description="stages, experiments, sweeps")
        )
    await client.create_concurrency_limit(tag=GPU_TAG, concurrency_limit=gpus)
    existing = {automation.name: automation.id for automation in await client.read_automations()}
    for automation in automations():
        if automation.name in existing:
            await client.delete_automation(existing[automation.name])
        await automation.acreate()


def automations() -> list[Automation]:
    """Return the automations: silent runs crash; failed runs and regressions trigger an action to be set in the UI."""
    ended = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "TimedOut")}
    silent = EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *ended},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=SILENT_SECONDS),
    )
    crash = ChangeFlowRunState(
        state=StateType.CRASHED, name=None, force=False, message="no heartbeat: its machine or network went down"
    )
    return [
        Automation(name="voice: crash silent runs", trigger=silent, actions=[crash]),
        _notification("voice: a run failed", RUN_FAILED),
        _notification("voice: a metric is worse than the accepted voice's", METRIC_WORSE),
    ]


def _notification(name: str, event: str) -> Automation:
    nothing: ActionTypes = DoNothing()
    trigger = EventTrigger(
        expect={event},
        match=ResourceSpecification({"prefect.resource.id": "voice.*"}),
        posture=Posture.Reactive,
        threshold=1,
    )
    return Automation(name=name, trigger=trigger, actions=[nothing])


async def deploy(root: Path, api: Api, gpus: int) -> None:
    """Set up the server that this process is connected to and deploy the flows of prefect.yaml. Raises RuntimeError."""
    async with get_client() as client:
        await set_up_server(client, gpus)
    environment = child_environment() | api.environment()
    environment.pop(PROJECT, None)  # every worker sets its own
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=root, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"prefect deploy --all failed: {(done.stdout + done.stderr).strip()[-2000:]}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of commands that deploy."""
    parser.add_argument("--root", type=Path, default=Path("."), help="project folder (default: .)")
    parser.add_argument(
        "--gpus", type=int, default=1, help=f"maximum number of concurrent stages with the tag {GPU_TAG} (default: 1)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Deploy to the server of PREFECT_API_URL."""
    parser = argparse.ArgumentParser(
        prog="voice-factory deploy",
        description="Deploy the flows to the Prefect server of PREFECT_API_URL.",
    )
    add_arguments(parser)
    options = parser.parse_args(argv)
    api = configured_server(options.root / HOME)
    if api is None:
        sys.stderr.write(
            "error: PREFECT_API_URL is not set; set it to the server, such as http://host:4200/api, or use make serve\n"
        )
        return 1
    try:
        with api.connected():
            asyncio.run(deploy(options.root, api, options.gpus))
    except RuntimeError as error:
        sys.stderr.write(f"{error_line(error)}\n")
        return 1
    sys.stderr.write("deployed: repro, watch, experiment, sweep, compare; start workers with make worker\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
