"""The DAG of dvc.yaml as DVC reads it: stages, edges, metadata, and which stages have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from dvc.utils.serialize import modify_yaml, parse_yaml

LOCK = "dvc.lock"


@dataclass(frozen=True)
class StageNode:
    """A DVC stage, the stages it depends on, and its `meta` of dvc.yaml (retries, timeout, tags)."""

    name: str
    upstream: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)


def read_dag(root: Path) -> dict[str, StageNode]:
    """Return the stages of dvc.yaml by name in topological order."""
    with Repo(str(root)) as repo:
        graph = repo.index.graph
        names = {stage: stage.name for stage in graph.nodes if getattr(stage, "name", None)}
        # DVC's edges point from a stage to its dependencies.
        nodes = {
            name: StageNode(
                name,
                tuple(sorted(names[other] for other in graph.successors(stage) if other in names)),
                dict(stage.meta or {}),
            )
            for stage, name in names.items()
        }
    ordered: dict[str, StageNode] = {}
    while len(ordered) < len(nodes):
        ready = sorted(
            name
            for name, node in nodes.items()
            if name not in ordered and all(other in ordered for other in node.upstream)
        )
        ordered.update((name, nodes[name]) for name in ready)
    return ordered


def changed_stages(root: Path) -> set[str]:
    """Return the stages whose own dependencies, parameters, command or outputs differ from dvc.lock."""
    with Repo(str(root)) as repo:
        return {name.split(":")[-1] for name in repo.status()}


def locked_stages(root: Path) -> list[str]:
    """Return the stages of dvc.lock in its order; none without the file."""
    path = root / LOCK
    return list(parse_yaml(path.read_text(encoding="utf-8"), path).get("stages", {})) if path.is_file() else []


def order_lock(root: Path, before: Sequence[str]) -> None:
    """Sort the stages of dvc.lock as `dvc repro` would; `before` is their order before the run.

    DVC appends a new stage at the end, so stages that ran in parallel are in the order in which they finished.
    """
    with Repo(str(root)) as repo:
        planned = [stage.name for stage in plan_repro(repo.index.graph) if getattr(stage, "name", None)]
        order = [*before, *(name for name in planned if name not in before)]
        locked = locked_stages(root)
        ordered = sorted(locked, key=lambda name: order.index(name) if name in order else len(order))
        if locked != ordered:
            with repo.lock, modify_yaml(root / LOCK) as content:
                for name in ordered:
                    content["stages"].move_to_end(name)
