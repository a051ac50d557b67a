"""The row store: finished rows come back, damage is noticed, and writers do not disturb each other."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from stages.rows import store as row_store
from stages.rows.store import RowStore, short_key, store_folder


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def short(name: str) -> bytes:
    return short_key(key(name))


def put_many(folder: Path, prefix: str, count: int) -> None:
    with RowStore(folder) as store:
        for index in range(count):
            store.put(key(f"{prefix}{index}"), {"name": f"{prefix}{index}"}, os.urandom(8) + bytes(index))


def only_pack(folder: Path) -> Path:
    (pack,) = folder.glob("*.pack")
    return pack


def test_a_row_comes_back_at_once_and_later(tmp_path: Path) -> None:
    with RowStore(tmp_path) as store:
        store.put(key("a"), {"länge": 3}, b"abc")
        assert key("a") in store and store.get(short("a")) == ({"länge": 3}, b"abc")
    with RowStore(tmp_path) as store:
        assert store.get(short("a")) == ({"länge": 3}, b"abc")
        assert key("b") not in store and store.get(short("b")) is None


def test_a_store_that_only_reads_leaves_no_file(tmp_path: Path) -> None:
    with RowStore(tmp_path) as store:
        store.get(short("a"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_lost", [1, 40, 59])
def test_a_tail_that_a_crash_cut_off_is_ignored(tmp_path: Path, n_lost: int) -> None:
    with RowStore(tmp_path) as store:
        store.put(key("a"), {}, b"first")
        store.put(key("b"), {}, b"second")
    pack = only_pack(tmp_path)
    os.truncate(pack, pack.stat().st_size - n_lost)
    with RowStore(tmp_path) as store:
        assert store.get(short("a")) == ({}, b"first")
        assert key("b") not in store
        store.put(key("b"), {}, b"again")
    with RowStore(tmp_path) as store:
        assert store.get(short("b")) == ({}, b"again")


def test_a_corrupted_row_is_reported_and_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RowStore(tmp_path) as store:
        store.put(key("a"), {}, b"payload")
    pack = only_pack(tmp_path)
    pack.write_bytes(pack.read_bytes().replace(b"payload", b"pAyload"))
    with RowStore(tmp_path) as store, caplog.at_level("WARNING"):
        assert store.get(short("a")) is None
    assert str(pack) in caplog.text


def test_two_processes_can_write_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=put_many, args=(tmp_path, prefix, 200)) for prefix in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with RowStore(tmp_path) as store:
        found = [store.get(short(f"{prefix}{index}")) for prefix in "ab" for index in range(200)]
    assert [row[0]["name"] for row in found if row] == [f"{prefix}{index}" for prefix in "ab" for index in range(200)]


def test_the_store_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_ROW_STORE", "/elsewhere")
    assert store_folder("bert") == Path("/elsewhere/bert")
    monkeypatch.delenv("VOICE_ROW_STORE")
    assert store_folder("bert") == Path(".rows/bert")


def test_rows_are_found_while_and_after_the_index_takes_them_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_store, "MAX_RECENT", 7)
    names = [f"word{index}" for index in range(100)]
    put_many(tmp_path, "word", 50)
    with RowStore(tmp_path) as store:
        for index in range(50, 100):
            store.put(key(names[index]), {"name": names[index]}, bytes(index))
            assert store.get(short(names[index])) == ({"name": names[index]}, bytes(index))
        there = store.contains(np.array([short(name) for name in [*names, "absent"]]))
        assert there.tolist() == [True] * 100 + [False]
        assert [row[0]["name"] for name in names if (row := store.get(short(name)))] == names


def test_keys_that_end_in_zero_bytes_are_found(tmp_path: Path) -> None:
    keys = [f"{number:032x}".ljust(64, "0")[::1] for number in (1, 256, 1 << 64, 0)] + ["ab" + "00" * 31]
    with RowStore(tmp_path) as store:
        for number, one in enumerate(keys):
            store.put(one, {"number": number}, b"")
    with RowStore(tmp_path) as store:
        assert all(store.contains(np.array([short_key(one) for one in keys], dtype="S16")))
        assert [row[0]["number"] for one in keys if (row := store.get(short_key(one)))] == list(range(len(keys)))
        assert "ac" + "00" * 31 not in store


def test_of_equal_keys_the_newest_row_is_found(tmp_path: Path) -> None:
    for count in range(3):
        with RowStore(tmp_path) as store:
            store.put(key("a"), {"count": count}, b"")
            assert store.get(short("a")) == ({"count": count}, b"")
    with RowStore(tmp_path) as store:
        assert store.get(short("a")) == ({"count": 2}, b"")


def test_more_packs_than_may_be_open_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store, "MAX_OPEN_PACKS", 3)
    for index in range(10):
        put_many(tmp_path, f"{index}-", 2)
    with RowStore(tmp_path) as store:
        for _ in range(2):
            assert all(store.get(short(f"{index}-{number}")) for number in range(2) for index in range(10))
