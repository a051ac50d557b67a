"""The DAG as DVC sees it, read from dvc.yaml: names, edges, metadata, and which stages have changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvc.repo import Repo


@dataclass(frozen=True)
class StageNode:
    """One DVC stage: its name, the stages it waits for, and dvc.yaml's `meta` (retries, timeout, tags)."""

    name: str
    upstream: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)


def read_dag(root: Path) -> dict[str, StageNode]:
    """Return the stages of dvc.yaml by name, each after the ones it waits for."""
    with Repo(str(root)) as repo:
        graph = repo.index.graph
        names = {stage: stage.name for stage in graph.nodes if getattr(stage, "name", None)}
        # DVC's edges point from a stage to what it depends on.
        nodes = {name: StageNode(name, tuple(sorted(names[other] for other in graph.successors(stage) if other in names)), dict(stage.meta or {}))
                 for stage, name in names.items()}  # fmt: skip
    ordered: dict[str, StageNode] = {}
    while len(ordered) < len(nodes):
        ready = sorted(name for name, node in nodes.items() if name not in ordered and all(other in ordered for other in node.upstream))
        ordered.update((name, nodes[name]) for name in ready)
    return ordered


def changed_stages(root: Path) -> set[str]:
    """Return the stages whose own dependencies, parameters, command or outputs differ from dvc.lock."""
    with Repo(str(root)) as repo:
        return {name.split(":")[-1] for name in repo.status()}
