"""New recordings start a run: a flow that looks for them, deployed on a schedule."""

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
from stages.common.files import write_json
from stages.common.params import read_params

SEEN = Path(".work/watch.json")  # the recordings that the last started run was for
QUIET_SECONDS = 30.0
STAGE = "corpus"
REPRO = "repro/repro"


@dataclass(frozen=True)
class _Look:
    """The recordings and transcripts at one moment: their number, the latest change (s), a hash over names, sizes and
    times.
    """

    n_files: int
    newest: float
    digest: str


def _look(root: Path) -> _Look:
    corpus = read_params(root / "params.yaml")[STAGE]
    digest, newest, n_files = hashlib.sha256(), 0.0, 0
    for path in _files(root / corpus["recordings"], root / corpus["transcripts"]):
        status = path.stat()
        newest, n_files = max(newest, status.st_mtime, status.st_ctime), n_files + 1
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return _Look(n_files, newest, digest.hexdigest())


def _files(*places: Path) -> Iterator[Path]:
    for place in places:
        yield from (
            sorted(path for path in place.rglob("*") if path.is_file())
            if place.is_dir()
            else [place]
            if place.is_file()
            else []
        )


@flow(name="watch")
async def watch(root: str = ".", quiet_seconds: float = QUIET_SECONDS, as_deployment: bool = True) -> State | None:
    """Bring the project up to date where its recordings or transcripts changed; it costs what the change costs.

    Waits until nothing was written for `quiet_seconds`, so that files are whole. Recordings over which a run failed do
    not start
    another until they change again. With `as_deployment` the run is one of the deployment of `repro`, with its limit,
    and not waited for.
    """
    folder = Path(root).resolve()
    found = await asyncio.to_thread(_look, folder)
    if found.newest > time.time() - quiet_seconds:
        return Completed(
            name="TooNew", message=f"files were written within the last {quiet_seconds:g} s; the next look takes them"
        )
    seen = folder / SEEN
    if seen.is_file() and json.loads(seen.read_text(encoding="utf-8"))["recordings"] == found.digest:
        return Completed(name=UP_TO_DATE, message="the recordings are those of the last run that was started")
    changed = STAGE in await asyncio.to_thread(changed_stages, folder)
    seen.parent.mkdir(parents=True, exist_ok=True)
    write_json(seen, {"recordings": found.digest})
    if not changed:
        return Completed(name=UP_TO_DATE, message="the recordings are those of the last run")
    get_run_logger().info("the recordings changed: %d files", found.n_files)
    if as_deployment:
        await arun_deployment(
            REPRO, parameters={"root": root}, flow_run_name="new recordings", timeout=0, as_subflow=False
        )
    else:
        await repro(root)
    return None
