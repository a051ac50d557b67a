"""Row stages: outputs are a pure function of the inputs, and only rows with a new key are computed.

Rows are iterated several times and never held in memory, except for about forty bytes each. Facts wait in an unnamed
file on the disk of the row store until the manifest is written.
"""

from __future__ import annotations

import logging
import pickle
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from stages.common.errors import PipelineError, RowRejected
from stages.common.progress import progress_bar
from stages.rows.executors import map_unordered
from stages.rows.machine_settings import setting, worker_count
from stages.rows.outcomes import OutcomeWriter
from stages.rows.shards import shard_count, shard_hash, write_shards
from stages.rows.store import KEY_BYTES, RowStore, short_key, store_folder

logger = logging.getLogger(__name__)

CHUNK_ROWS = 16
ROWS_PER_PROCESS = 64  # fewer are not worth starting a process
MAX_REPAIRS = 3


@dataclass(frozen=True)
class Row:
    """Work for one utterance: `key` hashes everything its result depends on, `payload` is the computation's input."""

    utterance_id: str
    key: str
    payload: Any


RowResult = tuple[dict[str, Any], bytes]
ChunkFunction = Callable[[Sequence[Row]], list[RowResult]]
Chunks = Callable[[Iterable[Row]], Iterator[Sequence[Row]]]


@dataclass(frozen=True)
class FinishedRow:
    """Result of one row: facts and shard location, or its rejection (reason, detail)."""

    utterance_id: str
    facts: dict[str, Any]
    shard: int
    offset_bytes: int
    rejected: tuple[str, str] | None = None


def compute_each(compute: Callable[[Any], RowResult], rows: Sequence[Row]) -> list[RowResult]:
    """Apply `compute` to every row's payload; a RowRejected becomes the row's result.

    So does an unexpected error, so that one row never ends a run: it is logged with its traceback and not stored.
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
            results.append(
                rejection(
                    "unexpected_error", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", lasting=False
                )
            )
    return results


def rejection(reason: str, detail: str, lasting: bool = True) -> RowResult:
    """Return the result of a row that is rejected; see RowRejected for `lasting`."""
    return {"rejected": [reason, detail], "lasting": lasting}, b""


def fixed_chunks(rows: Iterable[Row], size: int = CHUNK_ROWS) -> Iterator[Sequence[Row]]:
    """Yield rows in chunks of `size`."""
    remaining = iter(rows)
    while chunk := list(islice(remaining, size)):
        yield chunk


class FinishedRows:
    """Re-iterable results of all rows in order; this run computed `n_computed` of them."""

    def __init__(self, ids: IO[bytes], results: _Results, n_computed: int) -> None:
        self.n_computed = n_computed
        self._ids = ids
        self._results = results

    def __iter__(self) -> Iterator[FinishedRow]:
        self._ids.seek(0)
        n_shards = shard_count(len(self._results.hashes))
        for row, packed in enumerate(self._ids):
            facts = self._results.read(row)
            rejected = facts.get("rejected")
            yield FinishedRow(
                packed[:-1].decode("unicode_escape"),
                {} if rejected else facts,
                int(self._results.hashes[row]) % n_shards,
                int(self._results.offsets[row]),
                tuple(rejected) if rejected else None,
            )

    def write(self, writer: OutcomeWriter) -> None:
        """Write every row to the stage's manifest, with its location and facts, or to its rejects."""
        for row in self:
            if row.rejected:
                writer.reject(row.utterance_id, *row.rejected)
            else:
                writer.keep(
                    {
                        "utterance_id": row.utterance_id,
                        "shard": row.shard,
                        "offset_bytes": row.offset_bytes,
                        **row.facts,
                    }
                )


class _Results:
    """Facts of N rows in a file, their positions in it, and the rows' offsets in the shards."""

    def __init__(self, hashes: npt.NDArray[np.uint32], file: IO[bytes]) -> None:
        self.hashes = hashes
        self.offsets = np.zeros(len(hashes), dtype=np.int64)
        self._starts = np.zeros(len(hashes), dtype=np.int64)
        self._file = file

    def add(self, row: int, facts: dict[str, Any]) -> None:
        self._starts[row] = self._file.tell()
        pickle.dump(facts, self._file)

    def read(self, row: int) -> dict[str, Any]:
        self._file.seek(self._starts[row])
        facts: dict[str, Any] = pickle.load(self._file)
        return facts

    def clear(self) -> None:
        self._file.seek(0)
        self._file.truncate()


@contextmanager
def run_rows(
    stage: str,
    rows: Callable[[], Iterable[Row]],
    compute_chunk: ChunkFunction,
    folder: Path | None,
    *,
    chunks: Chunks = fixed_chunks,
    needs_gpu: bool = False,
    warm_up: Callable[[int], None] | None = None,
    isolated: bool = False,
) -> Iterator[FinishedRows]:
    """Compute the rows that the store lacks, write the shards of `folder` (if any), and yield all results.

    Every call of `rows` yields the same rows; shards keep their order. `compute_chunk` returns a chunk's (facts, bytes)
    and must be importable; a row's result may not depend on the others of its chunk. Transient rejects, such as an
    unreadable disk, are not stored. Before any row is computed, `warm_up` is called with their number. `isolated` rows
    may crash their process, as decoders of damaged files do: they are never computed in this one unless
    VOICE_WORKERS is 1.
    """
    with (
        RowStore(store_folder(stage)) as store,
        store.scratch_file() as ids,
        store.scratch_file() as facts,
    ):
        work = _Work(stage, rows, compute_chunk, chunks, needs_gpu, warm_up, isolated, store)
        packed_keys, packed_hashes = bytearray(), array("I")
        for row in rows():
            packed_keys += short_key(row.key)
            packed_hashes.append(shard_hash(row.utterance_id))
            ids.write(row.utterance_id.encode("unicode_escape") + b"\n")
        keys = np.array(packed_keys, dtype=np.uint8).view(f"S{KEY_BYTES}")
        missing = _first_of_equals(keys, np.flatnonzero(~store.contains(keys)))
        logger.info(
            "%s: %d in all, %d rows to compute, %d kept from earlier runs",
            stage,
            len(keys),
            len(missing),
            len(keys) - len(missing),
        )
        results = _Results(np.array(packed_hashes, dtype=np.uint32), facts)
        del packed_keys, packed_hashes
        work.compute(missing)
        for _ in range(MAX_REPAIRS):
            if not len(lost := work.collect(keys, results, folder)):
                break
            work.compute(_first_of_equals(keys, lost))
        else:
            raise PipelineError(
                f"{store.folder}: rows are lost or damaged repeatedly; "
                "check the disk, or set VOICE_ROW_STORE to another folder"
            )
        yield FinishedRows(ids, results, len(missing))


def _first_of_equals(keys: npt.NDArray[np.bytes_], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the `rows` whose key no earlier one of them has, in order."""
    return np.sort(rows[np.unique(keys[rows], return_index=True)[1]])


def process_count(n_rows: int) -> int:
    """Return the number of processes worth starting for rows to compute; 1: this process computes them itself."""
    return min(worker_count(), -(-n_rows // ROWS_PER_PROCESS))


ChunkResult = tuple[list[str], list[RowResult]]


@dataclass
class _Work:
    """One run over rows: missing ones are computed into the store, then all are collected from it."""

    stage: str
    rows: Callable[[], Iterable[Row]]
    compute_chunk: ChunkFunction
    chunks: Chunks
    needs_gpu: bool
    warm_up: Callable[[int], None] | None
    isolated: bool
    store: RowStore

    def __post_init__(self) -> None:
        self._transient: dict[bytes, RowResult] = {}

    def compute(self, numbers: npt.NDArray[np.int64]) -> None:
        """Compute the rows of these numbers (ascending)."""
        if not len(numbers):
            return
        if self.warm_up:
            self.warm_up(len(numbers))
        chunks = self.chunks(self._pick(numbers))
        with progress_bar(self.stage, len(numbers), "row") as bar:
            for keys, results in self._compute_all(chunks, len(numbers)):
                for key, result in zip(keys, results, strict=True):
                    if result[0].get("lasting", True):
                        self.store.put(key, *result)
                    else:
                        self._transient[short_key(key)] = result
                bar.update(len(results))

    def _pick(self, numbers: npt.NDArray[np.int64]) -> Iterator[Row]:
        rows = enumerate(self.rows())
        for picked in numbers:
            yield next(row for number, row in rows if number == picked)

    def _compute_all(self, chunks: Iterable[Sequence[Row]], n_rows: int) -> Iterator[ChunkResult]:
        """Yield (keys, results) of every chunk; if a worker dies, only the row that killed it is rejected."""
        run_chunk = partial(_run_chunk, self.compute_chunk)
        suspects: list[Sequence[Row]] = []

        def retry_one_by_one(chunk: Sequence[Row]) -> ChunkResult:
            suspects.extend([row] for row in chunk)
            return [], []

        yield from map_unordered(
            run_chunk,
            chunks,
            needs_gpu=self.needs_gpu,
            give_up=retry_one_by_one,
            isolated=self.isolated and setting("VOICE_WORKERS") != "1",
            max_processes=process_count(n_rows),
        )
        yield from map_unordered(run_chunk, suspects, needs_gpu=self.needs_gpu, give_up=_reject_chunk, isolated=True)

    def collect(self, keys: npt.NDArray[np.bytes_], results: _Results, folder: Path | None) -> npt.NDArray[np.int64]:
        """Write all facts and shards from the store; return the numbers of rows that it has lost."""
        lost = array("q")
        results.clear()

        def take(number: int) -> bytes:
            key = keys[number : number + 1].tobytes()
            result = self._transient.get(key) or self.store.get(key)
            if result is None:
                lost.append(number)
                return b""
            facts, blob = result
            results.add(number, facts)
            return blob

        if folder is None:
            for number in range(len(keys)):
                take(number)
        else:
            with progress_bar(f"{self.stage}: shards", len(keys), "row") as bar:
                results.offsets[:] = write_shards(folder, results.hashes, take, bar.update)
        return np.sort(np.array(lost, dtype=np.int64))


def _run_chunk(compute_chunk: ChunkFunction, rows: Sequence[Row]) -> ChunkResult:
    return [row.key for row in rows], compute_chunk(rows)


def _reject_chunk(rows: Sequence[Row]) -> ChunkResult:
    detail = "its worker process died; if the machine ran out of memory, set VOICE_WORKERS lower and run again"
    return [row.key for row in rows], [rejection("worker_died", detail, lasting=False) for _ in rows]
