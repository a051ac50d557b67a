"""A small git and DVC project with evaluations in it, written with the real schema and summary."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from dvc.repo import Repo

from stages.common import manifests
from stages.common.files import write_json
from stages.evaluate.scoring import ROW_SCHEMA, speed, summarise
from tests.project_copy import IDENTITY

STAGE = {
    "evaluate": {
        "cmd": "true",
        "params": ["train", "evaluate"],
        "outs": ["reports/evaluate", "reports/train"],
        "metrics": ["metrics.json", "speed.json"],
    }
}
PLOTS = [{"mel": {"x": "step", "y": {"reports/train/plots/metrics/validation/mel.tsv": "mel"}}}]


def evaluation(
    n_utterances: int = 24, *, speakers: Sequence[str] = ("anna", "ben"), seed: int = 0, **shifts: float
) -> list[dict[str, Any]]:
    """Return rows of utterances.parquet; `mos=0.3` adds that much to every value of a column."""
    generator, common = np.random.default_rng(seed), np.random.default_rng(99)
    rows = []
    for number in range(n_utterances):
        row: dict[str, Any] = {field.name: _zero(field.type) for field in ROW_SCHEMA}
        row |= {
            "utterance_id": f"u/{number:03d}",
            "speaker": speakers[number % len(speakers)],
            "language": "EN",
            "text": f"Sentence {number}.",
            "words": 5,
            "characters": 25,
            "phones": 20,
            "recording_transcript": "Heard.",
        }
        row |= {
            name: float(common.normal(3, 0.5) + generator.normal(0, 0.05))
            for name in ("mos", "recording_mos", "mcd_db", "f0_rmse_cents")
        }
        row |= {
            "character_edits": int(common.integers(0, 6)),
            "synthesis_wall_seconds": 0.5,
            "synthesis_seconds": 2.0,
            "note": "",
        }
        for name, shift in shifts.items():
            row[name] += shift
        rows.append(row)
    return rows


def _zero(kind: pa.DataType) -> Any:
    return (
        ""
        if pa.types.is_string(kind)
        else False
        if pa.types.is_boolean(kind)
        else 0
        if pa.types.is_integer(kind)
        else 0.0
    )


@dataclass(frozen=True)
class ComparableProject:
    """The project's folder and what a user does in it."""

    root: Path

    def git(self, *arguments: str) -> None:
        """Run git."""
        subprocess.run(
            ["git", *arguments], cwd=self.root, env={**os.environ, **IDENTITY}, check=True, capture_output=True
        )

    def evaluate(self, rows: Sequence[Mapping[str, Any]], *, steps: int = 100) -> None:
        """Leave an evaluation in the workspace, as the stages do."""
        table = manifests.table_from_rows([dict(row) for row in rows], ROW_SCHEMA, {"step": steps})
        (self.root / "reports/evaluate").mkdir(parents=True, exist_ok=True)
        manifests.write_manifest(self.root / "reports/evaluate/utterances.parquet", table)
        curve = self.root / "reports/train/plots/metrics/validation/mel.tsv"
        curve.parent.mkdir(parents=True, exist_ok=True)
        curve.write_text(
            "step\tmel\n" + "".join(f"{step}\t{1 / step}\n" for step in range(10, steps + 1, 10)), encoding="utf-8"
        )
        write_json(self.root / "metrics.json", summarise([dict(row) for row in rows]))
        write_json(self.root / "speed.json", speed([dict(row) for row in rows], 2**30))
        params = {"train": {"steps": steps, "decoder": "istft"}, "evaluate": {"seed": 0}}
        (self.root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")

    def commit(self, rows: Sequence[Mapping[str, Any]], tag: str, *, steps: int = 100) -> None:
        """Evaluate, and commit the result under a tag."""
        self.evaluate(rows, steps=steps)
        self._record()
        self.git("add", "-A")
        self.git("commit", "-qm", tag)
        self.git("tag", tag)

    def experiment(self, rows: Sequence[Mapping[str, Any]], name: str, *, steps: int = 100) -> None:
        """Evaluate, save the result as a DVC experiment and go back to the last commit."""
        self.evaluate(rows, steps=steps)
        self._record()
        with contextlib.chdir(self.root), Repo() as repo:
            repo.experiments.save(name=name)
        self.back_to("HEAD")

    def back_to(self, revision: str) -> None:
        """Bring the workspace back to a revision."""
        self.git("reset", "-q", "--hard", revision)
        with contextlib.chdir(self.root), Repo() as repo:
            repo.checkout(force=True)

    def _record(self) -> None:
        with contextlib.chdir(self.root), Repo() as repo:
            repo.commit(force=True)


def start_project(root: Path) -> ComparableProject:
    """Return a new project without evaluations."""
    root.mkdir(parents=True)
    project = ComparableProject(root)
    project.git("init", "-q")
    for name, value in (("user.name", "test"), ("user.email", "test@localhost")):
        project.git("config", name, value)
    Repo.init(str(root)).close()
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGE, "plots": PLOTS}), encoding="utf-8")
    return project
