"""What a comparison reads of an experiment: its evaluation, curves and parameters, from the workspace or from git and
DVC's cache.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import resolve_rev
from dvc_data.index import DataIndexDirError

from stages.common.errors import PipelineError
from stages.reporting.nested import flat

WORKSPACE = "workspace"
EVALUATION = Path("reports/evaluate")
TABLE = "utterances.parquet"
EVALUATORS = "evaluators.json"
CURVES = Path("reports/train/plots")
PARAMS = Path("params.yaml")
LOCK = "dvc.lock"

Row = Mapping[str, Any]
Curve = tuple[tuple[int, float], ...]  # step, value


@dataclass(frozen=True)
class Run:
    """One evaluated revision: rows of utterances.parquet, curves by name (`validation/mel`), parameters by dotted name.

    `report` is a copy of its reports/evaluate. `commit` is empty for the workspace.
    """

    revision: str
    commit: str
    step: int | None
    report: Path
    rows: tuple[Row, ...]
    curves: Mapping[str, Curve]
    params: Mapping[str, Any]
    evaluators: Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """What is compared, under the name given to it: one run, or several that differ in their seed."""

    name: str
    runs: tuple[Run, ...]


def fetch_experiment(root: Path, name: str, folder: Path) -> Experiment:
    """Return an experiment by name: a revision, or several with commas between, copied into `folder`.

    Raises PipelineError for a revision that does not exist, has no evaluation, or has one that is not in DVC's cache.
    """
    revisions = [part.strip() for part in name.split(",")]
    if not all(revisions) or len(set(revisions)) < len(revisions):
        raise PipelineError(
            f"compare: {name!r} names a revision twice or not at all; write REV or REV,REV,REV for several seeds"
        )
    return Experiment(
        name, tuple(fetch_run(root, revision, folder / str(number)) for number, revision in enumerate(revisions))
    )


def fetch_run(root: Path, revision: str, folder: Path) -> Run:
    """Copy what a comparison needs of one revision (`workspace`, or what git or DVC's experiments know) and read it;
    raises as above.
    """
    commit = ""
    if revision == WORKSPACE:
        _copy_workspace(root, folder)
    else:
        commit = _commit(root, revision)
        _copy_revision(root, revision, commit, folder)
    table = pq.read_table(folder / EVALUATION / TABLE)
    facts = json.loads((table.schema.metadata or {}).get(b"voice", b"{}"))
    return Run(
        revision=revision,
        commit=commit,
        step=facts.get("step"),
        report=folder / EVALUATION,
        rows=tuple(table.to_pylist()),
        curves=read_curves(folder / CURVES),
        params=flat(_yaml(folder / PARAMS)),
        evaluators=_evaluators(folder),
    )


def _evaluators(folder: Path) -> dict[str, Any]:
    """Return what measured a revision; that its test set is another shows in its utterances."""
    return {name: value for name, value in flat(_yaml(folder / EVALUATION / EVALUATORS)).items() if name != "test_set"}


def _commit(root: Path, revision: str) -> str:
    try:
        with Repo(str(root)) as repo:
            return str(resolve_rev(repo.scm, revision))
    except DvcException as error:
        raise PipelineError(
            f"compare: {revision!r} is no revision or experiment here ({error}); `git log` and `dvc exp list` name them"
        ) from None


def _copy_workspace(root: Path, folder: Path) -> None:
    if not (root / EVALUATION / TABLE).is_file():
        raise PipelineError(
            f"compare: the workspace has no {EVALUATION / TABLE}; `make run` or `dvc repro evaluate` makes it"
        )
    for path in (EVALUATION, CURVES):
        if (root / path).is_dir():
            shutil.copytree(root / path, folder / path)
    shutil.copy2(root / PARAMS, folder / PARAMS)


def _copy_revision(root: Path, revision: str, commit: str, folder: Path) -> None:
    files = DVCFileSystem(str(root), rev=commit)
    if not _is_locked(files):
        raise PipelineError(
            f"compare: {revision} has no {EVALUATION}; run `dvc repro` there and commit dvc.lock (or `dvc exp run`)"
        )
    try:
        for path in (EVALUATION, CURVES):
            if files.exists(str(path)):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                files.get(str(path), str(folder / path), recursive=True)
        (folder / PARAMS).write_text(files.read_text(str(PARAMS)), encoding="utf-8")
    except (FileNotFoundError, DataIndexDirError, DvcException) as error:
        raise PipelineError(
            f"compare: the files of {revision} are not in DVC's cache ({error}); fetch them from the remote with "
            f"`dvc fetch --all-commits evaluate train`, or run that revision again"
        ) from None


def _is_locked(files: DVCFileSystem) -> bool:
    """Return whether dvc.lock names an evaluation: dvc.yaml alone makes DVC say that the folder exists."""
    lock = yaml.safe_load(files.read_text(LOCK)) if files.exists(LOCK) else {}
    return any(
        out["path"] == str(EVALUATION) for stage in lock.get("stages", {}).values() for out in stage.get("outs", [])
    )


def read_curves(folder: Path) -> dict[str, Curve]:
    """Return DVCLive's curves by name (`validation/mel`): lines of step and value, what is not a number left out."""
    curves = {}
    for path in sorted(folder.glob("metrics/**/*.tsv")):
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream, delimiter="\t"))
        points = [(int(line["step"]), float(line[path.stem])) for line in lines]
        curves[path.relative_to(folder / "metrics").with_suffix("").as_posix()] = tuple(
            point for point in points if math.isfinite(point[1])
        )
    return curves


def _yaml(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def changed(runs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Return the keys whose values differ between mappings, with every mapping's value (None where it has none)."""
    keys = dict.fromkeys(key for values in runs for key in values)
    rows = {key: tuple(values.get(key) for values in runs) for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}
