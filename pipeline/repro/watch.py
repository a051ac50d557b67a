"""A scheduled flow that runs the project when its recordings have changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.deployments import arun_deployment
from prefect.states import Completed

from pipeline.repro.dag import changed_stages
from pipeline.repro.flow import UP_TO_DATE, repro
from stages.common.command import read_params
from stages.common.files import write_json

STARTED = Path(".work/watch.json")  # digest of the recordings for which a run was last started
QUIET_SECONDS = 30.0
STAGE = "corpus"
REPRO = "repro/repro"


@dataclass(frozen=True)
class _Snapshot:
    """Recordings and transcripts: their number, the latest change (Unix time), a hash of names, sizes and times."""

    n_files: int
    newest: float
    digest: str


def _snapshot(root: Path) -> _Snapshot:
    corpus = read_params(root / "params.yaml")[STAGE]
    digest, newest, n_files = hashlib.sha256(), 0.0, 0
    for path in _files(root / corpus["recordings"], root / corpus["transcripts"]):
        status = path.stat()
        newest, n_files = max(newest, status.st_mtime, status.st_ctime), n_files + 1
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return _Snapshot(n_files, newest, digest.hexdigest())


def _files(*paths: Path) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.is_file():
            yield path


@flow(name="watch")
async def watch(root: str = ".", quiet_seconds: float = QUIET_SECONDS, as_deployment: bool = True) -> State | None:
    """Run the project if its recordings or transcripts have changed.

    Files must be unchanged for `quiet_seconds`, so that none is half written. Recordings whose run failed do not start
    another until they change again. With `as_deployment` the run is one of the deployment `repro`, under its
    concurrency limit, and is not awaited.
    """
    folder = Path(root).resolve()
    snapshot = await asyncio.to_thread(_snapshot, folder)
    if snapshot.newest > time.time() - quiet_seconds:
        return Completed(
            name="TooNew", message=f"files changed within the last {quiet_seconds:g} s; checked again later"
        )
    started = folder / STARTED
    if started.is_file() and json.loads(started.read_text(encoding="utf-8"))["recordings"] == snapshot.digest:
        return Completed(name=UP_TO_DATE, message="the recordings are those of the last started run")
    changed = STAGE in await asyncio.to_thread(changed_stages, folder)
    started.parent.mkdir(parents=True, exist_ok=True)
    write_json(started, {"recordings": snapshot.digest})
    if not changed:
        return Completed(name=UP_TO_DATE, message="the recordings are those of the last run")
    get_run_logger().info("the recordings changed: %d files", snapshot.n_files)
    if as_deployment:
        await arun_deployment(
            REPRO, parameters={"root": root}, flow_run_name="new recordings", timeout=0, as_subflow=False
        )
    else:
        await repro(root)
    return None
