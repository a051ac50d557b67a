"""Shards: the same rows are the same bytes, a new row touches one file, and short reads are errors."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.harness.shard_files import write_named_shards
from stages.common.errors import StageError
from stages.rows import shards
from stages.rows.shards import MIN_SHARDS, ShardReader, shard_count, shard_hash
from tests.small_corpus import folder_bytes


def row_bytes(utterance_id: str) -> bytes:
    return utterance_id.encode() * (1 + len(utterance_id) % 3)


def write(folder: Path, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    return write_named_shards(folder, ids, row_bytes)


IDS = [f"anna/{index:03d}" for index in range(300)]


def test_every_row_is_found_at_its_place(tmp_path: Path) -> None:
    placed = write(tmp_path, IDS)
    assert sorted(placed) == sorted(IDS)
    with ShardReader(tmp_path) as reader:
        for utterance_id, (shard, offset) in placed.items():
            assert reader.read(shard, offset, len(row_bytes(utterance_id))) == row_bytes(utterance_id)


def test_one_new_clip_changes_one_shard(tmp_path: Path) -> None:
    write(tmp_path / "before", IDS)
    write(tmp_path / "after", sorted([*IDS, "bert/new"]))
    before, after = folder_bytes(tmp_path / "before"), folder_bytes(tmp_path / "after")
    assert [name for name in after if before.get(name) != after[name]] == [
        f"shards/{shard_hash('bert/new') % MIN_SHARDS:05d}.bin"
    ]


def test_the_number_of_shards_grows_by_doubling() -> None:
    counts = [shard_count(n_rows) for n_rows in (0, 1, 512, 513, 1024, 1025, 1_000_000)]
    assert counts == [16, 16, 16, 32, 32, 64, 32768]


def test_rows_spread_evenly(tmp_path: Path) -> None:
    members = np.bincount([shard_hash(f"speaker/{index}") % 16 for index in range(4096)], minlength=16)
    assert members.min() > 180 and members.max() < 340


def test_a_read_past_the_end_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (shard, offset) = write(tmp_path, ["only"])["only"]
    with ShardReader(tmp_path) as reader, pytest.raises(StageError) as caught:
        reader.read(shard, offset, 1000)
    assert f"{shard:05d}.bin" in str(caught.value) and "1000 expected" in str(caught.value)


def test_an_array_is_filled_whole_or_not_at_all_taken_for_full(tmp_path: Path) -> None:
    placed = write_named_shards(tmp_path, ["a"], lambda _: np.arange(6, dtype="<i2").tobytes())
    array = np.zeros((4, 3), dtype=np.int16)
    with ShardReader(tmp_path) as reader:
        reader.read_into(array[1:3], *placed["a"])
        assert array.tolist() == [[0, 0, 0], [0, 1, 2], [3, 4, 5], [0, 0, 0]]
        with pytest.raises(StageError, match="ends at byte 12, 24 expected"):
            reader.read_into(array, *placed["a"])


def test_a_missing_shard_says_how_to_get_it(tmp_path: Path) -> None:
    with ShardReader(tmp_path) as reader, pytest.raises(StageError, match="shard is missing; run `dvc checkout`"):
        reader.read(0, 0, 1)


def test_arrays_come_back_with_shape_and_type(tmp_path: Path) -> None:
    values = np.arange(12, dtype="<f2").reshape(4, 3)
    placed = write_named_shards(tmp_path, ["a"], lambda _: values.tobytes())
    with ShardReader(tmp_path) as reader:
        read = reader.read_array(*placed["a"], (4, 3), "float16")
    assert read.dtype == np.float16 and np.array_equal(read, values)


def test_a_pickled_reader_opens_its_files_anew(tmp_path: Path) -> None:
    shard, offset = write(tmp_path, ["one"])["one"]
    reader = ShardReader(tmp_path)
    reader.read(shard, offset, 3)
    copy = pickle.loads(pickle.dumps(reader))
    reader.close()
    with copy:
        assert copy.read(shard, offset, 3) == b"one"


def test_a_reader_of_many_shards_keeps_few_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_OPEN_SHARDS", 2)
    placed = write(tmp_path, IDS)
    with ShardReader(tmp_path) as reader:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for utterance_id, (shard, offset) in placed.items():
            assert reader.read(shard, offset, len(row_bytes(utterance_id))) == row_bytes(utterance_id)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
