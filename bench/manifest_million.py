"""Opening a manifest of a million utterances and planning an epoch over it, against parsing a list of lines; each in a process of its own."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.harness.common import Result
from bench.harness.speech import Clip
from model.sampler import BatchSampler
from model.text.symbols import PAD, SYMBOLS, SymbolTable
from stages.common import manifests
from stages.common.training_data import DataFolders, ManifestSource, read_split

N_ROWS, N_LINES = 1_000_000, 50_000
MEAN_PHONES = 60
FRAMES_PER_PHONE = 7
BATCH_SIZE, MAX_BATCH_FRAMES = 24, 24_000
TARGET_SECONDS = 10.0
MEGABYTE = 1e6
FACTS = {
    "spectrogram": {"settings": {"sample_rate_hz": 44100, "n_fft": 2048, "hop_samples": 512, "win_samples": 2048, "n_mels": 128}, "source": "cache"},
    "bert": {"encoders": {}}, "corpus": {"source_note": ""}, "clean_text": {"lexicon": {}},
}  # fmt: skip


def _lists(values: pa.Array, lengths: np.ndarray) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), values)


def split_table(n_rows: int) -> pa.Table:
    """Return made-up rows of the split manifest, in the order of their ids: English phones, lengths like those of sentences."""
    rng = np.random.default_rng(0)
    n_phones = np.clip(rng.lognormal(np.log(MEAN_PHONES), 0.5, n_rows), 4, 250).astype(np.int64)
    n_frames = n_phones * FRAMES_PER_PHONE
    total = int(n_phones.sum())
    spoken = pa.array([symbol for symbol in SYMBOLS if symbol != PAD])
    phones = spoken.take(pa.array(rng.integers(0, len(spoken), total)))
    n_padded, numbers, one = n_phones + 2, np.arange(n_rows), np.ones(n_rows, dtype=np.int64)
    columns = {
        "utterance_id": pa.array([f"speaker/{number:07d}" for number in numbers]), "subset": pa.array(["train"]).take(pa.array(0 * one)),
        "speaker": pa.array(["anna", "ben"]).take(pa.array(numbers % 2)), "language": pa.array(["EN"]).take(pa.array(0 * one)),
        "synthetic": pa.array(np.zeros(n_rows, dtype=bool)), "text": pa.array(["a line of text " * 5]).take(pa.array(0 * one)),
        "phones": _lists(phones, n_phones), "tones": _lists(pa.array(rng.integers(0, 4, total), pa.int16()), n_phones),
        "n_frames": n_frames, "n_samples": n_frames * 512, "pcm_shard": numbers % 4096, "pcm_offset_bytes": numbers * 1000,
        "spectrogram_shard": numbers % 4096, "spectrogram_offset_bytes": numbers * 1000,
        "phone_tokens": _lists(pa.array(np.arange(total + 2 * n_rows) % 30, pa.int16()), n_padded),
        "bert_spans": _lists(pa.StructArray.from_arrays(
            [pa.array(["EN"] * n_rows), *(pa.array(values, kind.type) for values, kind in zip(
                (n_padded, numbers % 4096, numbers * 1000, 30 * one, 384 * one), list(manifests.BERT_SPAN)[1:], strict=True))],
            fields=list(manifests.BERT_SPAN)), one),
    }  # fmt: skip
    table = pa.table([pa.array(columns[field.name]).cast(field.type) for field in manifests.SPLIT], schema=manifests.SPLIT)
    return table.replace_schema_metadata({manifests.METADATA_KEY: json.dumps(FACTS).encode()})


def write_lines(table: pa.Table, path: Path) -> None:
    """Write rows as `wav|speaker|language|text|phones|tones|word2ph` lines."""
    with path.open("w", encoding="utf-8") as stream:
        for row in table.to_pylist():
            tones, counts = (" ".join(map(str, values)) for values in (row["tones"], [1] * len(row["tones"])))
            stream.write("|".join((row["utterance_id"], row["speaker"], row["language"], row["text"], " ".join(row["phones"]), tones, counts)) + "\n")


def _state() -> tuple[float, float]:
    """Return this process's CPU seconds so far and its largest resident memory in MB."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))  # getrusage begins at the parent's
    return time.process_time(), int(peak[1]) * 1024 / MEGABYTE if peak else math.nan


def open_ours(folder: Path) -> dict[str, Any]:
    """Read the manifest and plan an epoch."""
    states = [_state()]
    table, facts = read_split(folder)
    source = ManifestSource(DataFolders(folder, folder, folder, folder), table, facts, "train", SymbolTable(), add_blank=True)
    states.append(_state())
    plan = BatchSampler(source.n_frames, BATCH_SIZE, MAX_BATCH_FRAMES, seed=0).epoch(0)
    states.append(_state())
    if sum(map(len, plan)) != len(source):
        raise ValueError(f"the plan has {sum(map(len, plan))} of {len(source)} utterances")
    return _differences(states)


def open_lines(path: Path) -> dict[str, Any]:
    """Parse the list as loaders of the time do, lists of phones, tones and counts for every line."""
    states = [_state()]
    rows = []
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            *names, phones, tones, word2ph = line.rstrip("\n").split("|")
            rows.append((*names, phones.split(" "), [int(tone) for tone in tones.split(" ")], [int(count) for count in word2ph.split(" ")]))
    states.append(_state())
    return _differences(states)


def _differences(states: Sequence[tuple[float, float]]) -> dict[str, Any]:
    steps = [[last - first for first, last in zip(*pair, strict=True)] for pair in itertools.pairwise(states)]
    return {"seconds": [seconds for seconds, _ in steps], "megabytes": sum(grown for _, grown in steps), "planning_megabytes": steps[-1][1]}


def _in_own_process(side: str, path: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "bench.manifest_million", side, str(path)], check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def manifest_million(clips: Sequence[Clip], scratch: Path) -> Result:
    """CPU seconds to open a million rows and plan an epoch; the reference parses lines, fewer of them, scaled up."""
    del clips  # the rows are made up
    table = split_table(N_ROWS)
    manifests.write_manifest(scratch / "split.parquet", table)
    write_lines(table.slice(0, N_LINES), scratch / "lines.txt")
    n_bytes = table.nbytes
    del table
    ours, theirs = _in_own_process("ours", scratch), _in_own_process("lines", scratch / "lines.txt")
    scale = N_ROWS / N_LINES
    opened, planned = ours["seconds"]
    total, reference = opened + planned, theirs["seconds"][0] * scale
    note = (
        f"{N_ROWS} made-up rows of {MEAN_PHONES} phones: {opened:.1f} s to open, {planned:.1f} s to plan an epoch; resident memory grows by "
        f"{ours['megabytes']:.0f} MB, {ours['planning_megabytes']:.0f} MB of it for the plan ({n_bytes / MEGABYTE:.0f} MB of columns); the "
        f"reference, which has planned nothing yet, is {N_LINES} lines × {scale:g}, with {theirs['megabytes'] * scale:.0f} MB"
    )
    return Result(name="manifest_million", ours=total, reference=reference, ratio=reference / total, limit_share=None, target=TARGET_SECONDS,
                  target_of="ours_at_most", unit="CPU s", rounds=1, note=note)  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"ours": open_ours, "lines": open_lines}[sys.argv[1]](Path(sys.argv[2]))))
