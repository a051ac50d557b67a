"""Row stages: outputs that are a pure function of the inputs, computing only the rows whose key is new."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from stages.common.errors import PipelineError, RowRejected
from stages.common.executors import map_unordered
from stages.common.manifests import reject
from stages.common.progress import progress_bar
from stages.common.row_store import RowStore, store_folder
from stages.common.shards import write_shards

logger = logging.getLogger(__name__)

CHUNK_ROWS = 16


@dataclass(frozen=True)
class Row:
    """One utterance's work: `key` hashes all that its result depends on, `payload` is what the computation takes."""

    utterance_id: str
    key: str
    payload: Any


RowResult = tuple[dict[str, Any], bytes]
ChunkFunction = Callable[[Sequence[Row]], list[RowResult]]


@dataclass(frozen=True)
class RowOutcome:
    """What became of the rows: facts and places by utterance id, rejects, and how many were computed in this run."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    placed: dict[str, tuple[int, int]] = field(default_factory=dict)
    rejected: list[dict[str, str]] = field(default_factory=list)
    n_computed: int = 0


def compute_each(compute: Callable[[Any], RowResult], rows: Sequence[Row]) -> list[RowResult]:
    """Apply `compute` to every row's payload; a RowRejected becomes a result of its own.

    So does an error that nobody foresaw, so that one row never ends a run: it is logged with its traceback and not remembered.
    """
    results = []
    for row in rows:
        try:
            results.append(compute(row.payload))
        except RowRejected as error:
            results.append(rejection(error.reason, error.detail, error.lasting))
        except PipelineError:
            raise
        except Exception as error:
            logger.exception("utterance %s: unexpected error", row.utterance_id)
            results.append(rejection("unexpected_error", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", lasting=False))
    return results


def rejection(reason: str, detail: str, lasting: bool = True) -> RowResult:
    """Return the result of a row that is rejected; see RowRejected for `lasting`."""
    return {"rejected": [reason, detail], "lasting": lasting}, b""


def fixed_chunks(rows: Sequence[Row], size: int = CHUNK_ROWS) -> list[Sequence[Row]]:
    """Return rows in chunks of `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def run_rows(
    stage: str, rows: Sequence[Row], compute_chunk: ChunkFunction, folder: Path | None, *,
    chunks: Callable[[Sequence[Row]], list[Sequence[Row]]] = fixed_chunks, needs_gpu: bool = False,
) -> RowOutcome:  # fmt: skip
    """Bring every row's result into the row store, then write the shards of `folder` (if any) from it.

    `compute_chunk` takes a list of rows to their (facts, bytes) and must be importable; a row's result may not
    depend on the others of its chunk. Rejects that blame the moment (an unreadable disk) are not stored.
    """
    ordered = sorted(rows, key=lambda row: row.utterance_id)
    passing: dict[str, RowResult] = {}
    with RowStore(store_folder(stage)) as store:
        missing = list({row.key: row for row in ordered if row.key not in store}.values())
        logger.info("%s: %d utterances, %d rows to compute, %d kept from earlier runs",
                    stage, len(rows), len(missing), len(rows) - len(missing))  # fmt: skip
        work = chunks(missing)
        with progress_bar(stage, len(missing), "utterance") as bar:
            for keys, results in _compute_all(compute_chunk, work, needs_gpu):
                for key, result in zip(keys, results, strict=True):
                    if result[0].get("lasting", True):
                        store.put(key, *result)
                    else:
                        passing[key] = result
                bar.update(len(results))
        return _collect(stage, ordered, _loader(compute_chunk, store, passing), folder, len(missing))


ChunkResult = tuple[list[str], list[RowResult]]


def _compute_all(compute_chunk: ChunkFunction, work: Sequence[Sequence[Row]], needs_gpu: bool) -> Iterator[ChunkResult]:
    """Yield (keys, results) of every chunk; a row that takes its worker process down is rejected, the others of its chunk are not."""
    run_chunk = partial(_run_chunk, compute_chunk)
    suspects: list[Sequence[Row]] = []

    def suspect(chunk: Sequence[Row]) -> ChunkResult:
        suspects.extend([row] for row in chunk)
        return [], []

    yield from map_unordered(run_chunk, work, len(work), needs_gpu=needs_gpu, give_up=suspect)
    yield from map_unordered(run_chunk, suspects, len(suspects), needs_gpu=needs_gpu, give_up=_lost, apart=True)


def _run_chunk(compute_chunk: ChunkFunction, rows: Sequence[Row]) -> ChunkResult:
    return [row.key for row in rows], compute_chunk(rows)


def _lost(rows: Sequence[Row]) -> ChunkResult:
    detail = "its worker process died; if the machine ran out of memory, set VOICE_WORKERS lower and run again"
    return [row.key for row in rows], [rejection("worker_died", detail, lasting=False) for _ in rows]


def _loader(
    compute_chunk: ChunkFunction, store: RowStore, passing: dict[str, RowResult]
) -> Callable[[Row], RowResult]:
    """Return what reads a finished row, computing it again where the store's copy turns out damaged."""

    def load(row: Row) -> RowResult:
        found = passing.get(row.key) or store.get(row.key)
        if found is None:
            found = compute_chunk([row])[0]
            if found[0].get("lasting", True):
                store.put(row.key, *found)
        return found

    return load


def _collect(
    stage: str, rows: Sequence[Row], load: Callable[[Row], RowResult], folder: Path | None, n_computed: int
) -> RowOutcome:
    by_id = {row.utterance_id: row for row in rows}
    outcome = RowOutcome(n_computed=n_computed)

    def take(utterance_id: str) -> bytes:
        facts, blob = load(by_id[utterance_id])
        if "rejected" in facts:
            outcome.rejected.append(reject(utterance_id, stage, *facts["rejected"]))
        else:
            outcome.facts[utterance_id] = facts
        return blob

    if folder is None:
        for utterance_id in by_id:
            take(utterance_id)
        return outcome
    with progress_bar(f"{stage}: shards", len(by_id), "utterance") as bar:
        outcome.placed.update(write_shards(folder, by_id, take, bar.update))
    return outcome
