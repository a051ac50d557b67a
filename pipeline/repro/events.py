"""Prefect events for automations: a failed run, and a voice significantly worse than the accepted version."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from gto.versions import SemVer
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event

RUN_FAILED = "voice.run.failed"
METRIC_WORSE = "voice.metric.worse"
_TAG = "voice@"  # prefix of registered versions


def accepted_version(root: Path) -> str | None:
    """Return the tag of the newest registered version of the voice; None without one."""
    with Repo(str(root)) as repo:
        tags = [tag.removeprefix("refs/tags/") for tag in repo.scm.iter_refs("refs/tags/")]
    versions = [tag for tag in tags if tag.startswith(_TAG) and SemVer.is_valid(tag.removeprefix(_TAG))]
    return max(versions, key=lambda tag: SemVer(tag.removeprefix(_TAG)), default=None)


def emit_regression(root: Path) -> list[str]:
    """Compare the workspace's voice with the accepted version and emit an event if a metric is worse.

    Return a sentence for each worse metric. Raises PipelineError if the evaluations cannot be compared.
    """
    accepted = accepted_version(root)
    if accepted is None or not (root / "metrics.json").is_file():
        return []
    # Imported here: scipy and pandas take a second.
    from pipeline.compare.comparison import MACHINE_DEPENDENT, compare_experiments
    from pipeline.compare.experiments import WORKSPACE, fetch_experiment
    from stages.metrics.bootstrap import Verdict

    with tempfile.TemporaryDirectory() as scratch:
        comparison = compare_experiments(
            [fetch_experiment(root, name, Path(scratch) / name) for name in (accepted, WORKSPACE)]
        )
    worse = {
        result.metric.key: contrast.sentence
        for result in comparison.results
        for contrast in result.contrasts
        if contrast is not None and contrast.outcome is Verdict.WORSE and result.metric.key not in MACHINE_DEPENDENT
    }
    if worse:
        emit_event(
            METRIC_WORSE,
            resource={"prefect.resource.id": f"voice.{root.name}", "prefect.resource.name": str(root)},
            payload={"accepted": accepted, "metrics": list(worse), "sentences": list(worse.values())},
        )
    return list(worse.values())


def emit_failure(flow: Any, flow_run: FlowRun, state: State) -> None:
    """Emit an event for a failed or crashed run (a hook of the flows)."""
    emit_event(
        RUN_FAILED,
        resource={"prefect.resource.id": f"voice.{flow.name}", "prefect.resource.name": flow_run.name},
        payload={"flow_run": str(flow_run.id), "state": str(state.name), "message": state.message or ""},
    )
