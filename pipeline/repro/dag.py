"""The DAG as DVC sees it, read from dvc.yaml: names, edges, metadata, and which stages have changed."""

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
    """Return the stages of dvc.lock in its order; none where there is no such file."""
    path = root / LOCK
    return list(parse_yaml(path.read_text(encoding="utf-8"), path).get("stages", {})) if path.is_file() else []


def order_lock(root: Path, before: Sequence[str]) -> None:
    """Put the stages of dvc.lock into the order in which `dvc repro` leaves them, `before` being theirs before the run.

    DVC adds a new stage at the end; stages that ran side by side are there in the order in which they happened to end.
    """
    with Repo(str(root)) as repo:
        planned = [stage.name for stage in plan_repro(repo.index.graph) if getattr(stage, "name", None)]
        wanted = [*before, *(name for name in planned if name not in before)]
        found = locked_stages(root)
        if found != (ordered := sorted(found, key=lambda name: wanted.index(name) if name in wanted else len(wanted))):
            with repo.lock, modify_yaml(root / LOCK) as content:
                for name in ordered:
                    content["stages"].move_to_end(name)
