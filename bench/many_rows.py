"""Does a corpus of very many clips fit into memory, and how fast does training open it?

`row_memory`: peak resident memory of a data stage's own process (not its workers) at 100,000 rows, against 1,000,
through the row store, executor and shards of the stages. `manifest_million`: CPU time to open a manifest of a million
utterances and plan an epoch. All rows are made up; each figure is measured in a process of its own.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.harness.common import Result
from model.text.symbols import PAD, SYMBOLS, SymbolTable
from model.training.sampler import BatchSampler
from stages.common import manifests
from stages.common.files import content_key
from stages.rows.engine import Row, RowResult, compute_each, run_rows
from stages.rows.outcomes import outcome_writer
from stages.train.manifest_source import DataFolders, ManifestSource, read_split

FEW_ROWS, MANY_ROWS, MILLION_ROWS = 1_000, 100_000, 1_000_000
ROW_BYTES = 4_000
KIND = manifests.schema(
    utterance_id=pa.string(),
    shard=pa.int32(),
    offset_bytes=pa.int64(),
    n_samples=pa.int64(),
    sha256=pa.string(),
)
MEAN_PHONES, FRAMES_PER_PHONE = 60, 7
BATCH_SIZE, MAX_BATCH_FRAMES = 24, 24_000
MEMORY_TARGET = 0.85  # constant, except for an index of about seventy bytes a row
OPENING_TARGET_SECONDS = 10.0
MEGABYTE = 1e6
FACTS = {
    "spectrogram": {
        "settings": {"sample_rate_hz": 44100, "n_fft": 2048, "hop_samples": 512, "win_samples": 2048, "n_mels": 128},
        "source": "cache",
    },
    "bert": {"encoders": {}},
    "corpus": {"source_note": ""},
    "clean_text": {"lexicon": {}},
}


def make_bytes(index: int) -> RowResult:
    """Return a row of `ROW_BYTES` bytes, different for every index."""
    return {"n_samples": ROW_BYTES, "sha256": content_key(index)}, index.to_bytes(8, "big") * (ROW_BYTES // 8)


def compute(rows: Sequence[Row]) -> list[RowResult]:
    """Make a chunk of rows."""
    return compute_each(make_bytes, rows)


def store_rows(n_rows: int, out: Path) -> None:
    """Write `n_rows` rows through the row store to the shards of `out`."""

    def rows() -> Iterator[Row]:
        for index in range(n_rows):
            yield Row(f"speaker/{index:07d}", content_key("memory", index), index)

    with (
        run_rows("memory", rows, compute, out) as outcome,
        outcome_writer(out, "memory", KIND, {}, n_input=n_rows, max_reject_share=0.0) as writer,
    ):
        outcome.write(writer)


def _lists(values: pa.Array, lengths: np.ndarray) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), values)


def split_table(n_rows: int) -> pa.Table:
    """Return made-up rows of the split manifest, in the order of their ids: English phones, lengths like those of
    sentences.
    """
    rng = np.random.default_rng(0)
    n_phones = np.clip(rng.lognormal(np.log(MEAN_PHONES), 0.5, n_rows), 4, 250).astype(np.int64)
    n_frames = n_phones * FRAMES_PER_PHONE
    total = int(n_phones.sum())
    spoken = pa.array([symbol for symbol in SYMBOLS if symbol != PAD])
    phones = spoken.take(pa.array(rng.integers(0, len(spoken), total)))
    n_padded, numbers, one = n_phones + 2, np.arange(n_rows), np.ones(n_rows, dtype=np.int64)
    columns = {
        "utterance_id": pa.array([f"speaker/{number:07d}" for number in numbers]),
        "subset": pa.array(["train"]).take(pa.array(0 * one)),
        "speaker": pa.array(["anna", "ben"]).take(pa.array(numbers % 2)),
        "language": pa.array(["EN"]).take(pa.array(0 * one)),
        "synthetic": pa.array(np.zeros(n_rows, dtype=bool)),
        "text": pa.array(["a line of text " * 5]).take(pa.array(0 * one)),
        "phones": _lists(phones, n_phones),
        "tones": _lists(pa.array(rng.integers(0, 4, total), pa.int16()), n_phones),
        "n_frames": n_frames,
        "n_samples": n_frames * 512,
        "pcm_shard": numbers % 4096,
        "pcm_offset_bytes": numbers * 1000,
        "spectrogram_shard": numbers % 4096,
        "spectrogram_offset_bytes": numbers * 1000,
        "phone_tokens": _lists(pa.array(np.arange(total + 2 * n_rows) % 30, pa.int16()), n_padded),
        "bert_spans": _lists(
            pa.StructArray.from_arrays(
                [
                    pa.array(["EN"] * n_rows),
                    *(
                        pa.array(values, kind.type)
                        for values, kind in zip(
                            (n_padded, numbers % 4096, numbers * 1000, 30 * one, 384 * one),
                            list(manifests.BERT_SPAN)[1:],
                            strict=True,
                        )
                    ),
                ],
                fields=list(manifests.BERT_SPAN),
            ),
            one,
        ),
    }
    table = pa.table(
        [pa.array(columns[field.name]).cast(field.type) for field in manifests.SPLIT], schema=manifests.SPLIT
    )
    return table.replace_schema_metadata({manifests.METADATA_KEY: json.dumps(FACTS).encode()})


def peak_megabytes() -> float:
    """Return the largest resident memory of this process so far; getrusage would begin at its parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) * 1024 / MEGABYTE if found else math.nan


def open_million(folder: Path) -> dict[str, float]:
    """Open a manifest, plan an epoch over it and return the CPU seconds of both, and by how much memory grew."""
    started, before = time.process_time(), peak_megabytes()
    table, facts = read_split(folder)
    folders = DataFolders(folder, folder, folder, folder)
    source = ManifestSource(folders, table, facts, "train", SymbolTable(), add_blank=True)
    opened = time.process_time()
    plan = BatchSampler(source.n_frames, BATCH_SIZE, MAX_BATCH_FRAMES, seed=0).epoch(0)
    planned = time.process_time()
    if sum(map(len, plan)) != len(source):
        raise ValueError(f"the plan has {sum(map(len, plan))} of {len(source)} utterances")
    return {"open": opened - started, "plan": planned - opened, "megabytes": peak_megabytes() - before}


def _in_own_process(*arguments: str, **environment: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.many_rows", *arguments]
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _memory_of(n_rows: int, scratch: Path) -> float:
    out, store = scratch / f"out{n_rows}", scratch / f"rows{n_rows}"
    return _in_own_process("store", str(out), str(n_rows), VOICE_ROW_STORE=str(store), VOICE_WORKERS="2")["megabytes"]


def run(scratch: Path) -> list[Result]:
    """Measure memory at two numbers of rows, and the opening of a million."""
    few, many = (_memory_of(n_rows, scratch) for n_rows in (FEW_ROWS, MANY_ROWS))
    bytes_per_row = (many - few) * MEGABYTE / (MANY_ROWS - FEW_ROWS)
    memory = Result(
        name="row_memory",
        ours=many,
        reference=few,
        ratio=few / many,
        target=MEMORY_TARGET,
        unit="MB",
        note=f"{MANY_ROWS} rows of {ROW_BYTES} bytes against {FEW_ROWS}: {bytes_per_row:.0f} bytes a row",
    )
    manifests.write_manifest(scratch / "split.parquet", split_table(MILLION_ROWS))
    million = _in_own_process("open", str(scratch))
    opening = Result(
        name="manifest_million",
        ours=million["open"] + million["plan"],
        target=OPENING_TARGET_SECONDS,
        target_of="ours_at_most",
        unit="CPU s",
        note=f"{MILLION_ROWS} rows of {MEAN_PHONES} phones: {million['open']:.1f} s to open, {million['plan']:.1f} "
        f"s to "
        f"plan; memory grows by {million['megabytes']:.0f} MB",
    )
    return [memory, opening]


def main(side: str, folder: str, n_rows: str = "0") -> None:
    """Print the figures of one side as JSON."""
    if side == "open":
        figures = open_million(Path(folder))
    else:
        store_rows(int(n_rows), Path(folder))
        figures = {"megabytes": peak_megabytes()}
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
