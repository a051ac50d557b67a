"""Crash runs whose worker is gone, which would otherwise stay `Running` and block the next run."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

WORKER_LABEL = "prefect.worker.name"
ACTIVE = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]
MESSAGE = "its worker ended; finished stages are kept, run it again to resume"


async def crash_lost_runs(client: PrefectClient, worker: str) -> list[FlowRun]:
    """Set the runs of an ended worker to Crashed, with their stages and sub-runs, and return them."""
    runs = await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=_in(ACTIVE)))
    lost = [run for run in runs if run.labels.get(WORKER_LABEL) == worker]
    for run in lost:
        await _crash(client, run.id)
    return lost


def _in(types: Sequence[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))


async def _crash(client: PrefectClient, run: UUID) -> None:
    children = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run]), state=_in(ACTIVE))
    )
    for child in children:
        if child.deployment_id is None:  # runs of deployments have their own process
            await _crash(client, child.id)
    stages = await client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=ACTIVE))),
    )
    for stage in stages:
        await client.set_task_run_state(stage.id, Crashed(message=MESSAGE), force=True)
    await client.set_flow_run_state(run, Crashed(message=MESSAGE), force=True)
