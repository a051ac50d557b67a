"""Read an experiment's evaluation, training curves and parameters, from the workspace or from git and DVC's cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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


@dataclass(frozen=True)
class Run:
    """One evaluated revision: utterances.parquet indexed by utterance_id, training curves and parameters.

    `report` is a copy of its reports/evaluate. `commit` is empty for the workspace. Curves are series by step under
    names such as `validation/mel`; parameters have dotted names.
    """

    revision: str
    commit: str
    step: int | None
    report: Path
    utterances: pd.DataFrame
    curves: Mapping[str, pd.Series[float]]
    params: Mapping[str, Any]
    evaluators: Mapping[str, Any]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Return the utterances as rows, which metrics and the bootstrap take."""
        return [
            {str(key): value for key, value in row.items()} for row in self.utterances.reset_index().to_dict("records")
        ]


@dataclass(frozen=True)
class Experiment:
    """A named subject of a comparison: one run, or several that differ in their seed."""

    name: str
    runs: tuple[Run, ...]


def fetch_experiment(root: Path, name: str, folder: Path) -> Experiment:
    """Return an experiment by name: a revision, or several separated by commas; its files are copied into `folder`.

    Raises PipelineError for a revision that does not exist, has no evaluation, or has one that is not in DVC's cache.
    """
    revisions = [part.strip() for part in name.split(",")]
    if not all(revisions) or len(set(revisions)) < len(revisions):
        raise PipelineError(
            f"compare: {name!r} repeats a revision or has an empty one; write REV, or REV,REV,REV for several seeds"
        )
    return Experiment(
        name, tuple(fetch_run(root, revision, folder / str(number)) for number, revision in enumerate(revisions))
    )


def fetch_run(root: Path, revision: str, folder: Path) -> Run:
    """Copy and read one revision: `workspace`, a git revision or a DVC experiment. Raises as `fetch_experiment`."""
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
        utterances=table.to_pandas().set_index("utterance_id"),
        curves=read_curves(folder / CURVES),
        params=flat(_yaml(folder / PARAMS)),
        evaluators=_evaluators(folder),
    )


def _evaluators(folder: Path) -> dict[str, Any]:
    """Return the evaluators without the test set, whose differences show in the utterances."""
    return {name: value for name, value in flat(_yaml(folder / EVALUATION / EVALUATORS)).items() if name != "test_set"}


def _commit(root: Path, revision: str) -> str:
    try:
        with Repo(str(root)) as repo:
            return str(resolve_rev(repo.scm, revision))
    except DvcException as error:
        raise PipelineError(
            f"compare: {revision!r} is not a revision or experiment ({error}); "
            "list them with `git log` and `dvc exp list`"
        ) from None


def _copy_workspace(root: Path, folder: Path) -> None:
    if not (root / EVALUATION / TABLE).is_file():
        raise PipelineError(
            f"compare: the workspace has no {EVALUATION / TABLE}; run `make run` or `dvc repro evaluate`"
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
    """Return whether dvc.lock has the evaluation; DVC reports the folder as existing from dvc.yaml alone."""
    lock = yaml.safe_load(files.read_text(LOCK)) if files.exists(LOCK) else {}
    return any(
        out["path"] == str(EVALUATION) for stage in lock.get("stages", {}).values() for out in stage.get("outs", [])
    )


def read_curves(folder: Path) -> dict[str, pd.Series[float]]:
    """Return DVCLive's curves by name (`validation/mel`) as series of finite values by step."""
    curves = {}
    for path in sorted(folder.glob("metrics/**/*.tsv")):
        values = pd.read_csv(path, sep="\t", index_col="step")[path.stem].astype(float)
        curves[path.relative_to(folder / "metrics").with_suffix("").as_posix()] = values[np.isfinite(values)]
    return curves


def _yaml(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def changed(runs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Return the keys whose values differ between mappings, with each mapping's value or None."""
    keys = dict.fromkeys(key for values in runs for key in values)
    rows = {key: tuple(values.get(key) for values in runs) for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}
