"""Resident memory of a data stage's driver at 1,000 and at 100,000 rows, through the row store, executor and shards that stages use."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from bench.harness.common import Result
from bench.harness.speech import Clip
from stages.common.files import content_key
from stages.common.manifests import schema
from stages.common.outcomes import outcome_writer
from stages.common.rows import Row, RowResult, compute_each, run_rows

FEW_ROWS, MANY_ROWS = 1_000, 100_000
ROW_BYTES = 4_000
KIND = schema(utterance_id=pa.string(), shard=pa.int32(), offset_bytes=pa.int64(), n_samples=pa.int64(), sha256=pa.string())
KILOBYTES_PER_MEGABYTE = 1024
TARGET = 0.85  # flat, but for an index of some seventy bytes a row


def make_bytes(index: int) -> RowResult:
    """Return a row of `ROW_BYTES` bytes, no two alike."""
    return {"n_samples": ROW_BYTES, "sha256": content_key(index)}, index.to_bytes(8, "big") * (ROW_BYTES // 8)


def compute(rows: Sequence[Row]) -> list[RowResult]:
    """Make a chunk of rows."""
    return compute_each(make_bytes, rows)


def run(n_rows: int, out: Path) -> None:
    """Bring `n_rows` rows through the store into the shards of `out`."""

    def rows() -> Iterator[Row]:
        for index in range(n_rows):
            yield Row(f"speaker/{index:07d}", content_key("memory", index), index)

    with (
        run_rows("memory", rows, compute, out) as outcome,
        outcome_writer(out, "memory", KIND, {}, n_input=n_rows, max_reject_share=0.0) as writer,
    ):
        outcome.write(writer)


def _megabytes_of(n_rows: int, scratch: Path) -> float:
    settings = {"VOICE_ROW_STORE": str(scratch / f"rows{n_rows}"), "VOICE_WORKERS": "2"}
    command = [sys.executable, "-m", "bench.row_memory", str(n_rows), str(scratch / f"out{n_rows}")]
    done = subprocess.run(command, env={**os.environ, **settings}, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return float(done.stdout)


def row_memory(clips: list[Clip], scratch: Path) -> Result:
    """Peak resident megabytes of the driver (not its workers) at many rows, and at few as the reference; ratio is few / many."""
    del clips  # the rows are made up
    few, many = (_megabytes_of(n_rows, scratch) for n_rows in (FEW_ROWS, MANY_ROWS))
    return Result(
        name="row_memory", ours=many, reference=few, ratio=few / many, limit_share=None, target=TARGET, unit="MB", rounds=1,
        note=f"{MANY_ROWS} rows of {ROW_BYTES} bytes against {FEW_ROWS}; the rest is {(many - few) * 1e6 / (MANY_ROWS - FEW_ROWS):.0f} bytes a row",
    )  # fmt: skip


if __name__ == "__main__":
    run(int(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KILOBYTES_PER_MEGABYTE}\n")
