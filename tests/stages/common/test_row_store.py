"""The row store: finished rows come back, damage is noticed, and writers do not disturb each other."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from pathlib import Path

import pytest

from stages.common.row_store import RowStore, store_folder


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


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
        assert key("a") in store and store.get(key("a")) == ({"länge": 3}, b"abc")
    with RowStore(tmp_path) as store:
        assert store.get(key("a")) == ({"länge": 3}, b"abc")
        assert key("b") not in store and store.get(key("b")) is None


def test_a_store_that_only_reads_leaves_no_file(tmp_path: Path) -> None:
    with RowStore(tmp_path) as store:
        store.get(key("a"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_lost", [1, 40, 87])
def test_a_tail_that_a_crash_cut_off_is_ignored(tmp_path: Path, n_lost: int) -> None:
    with RowStore(tmp_path) as store:
        store.put(key("a"), {}, b"first")
        store.put(key("b"), {}, b"second")
    pack = only_pack(tmp_path)
    os.truncate(pack, pack.stat().st_size - n_lost)
    with RowStore(tmp_path) as store:
        assert store.get(key("a")) == ({}, b"first")
        assert key("b") not in store
        store.put(key("b"), {}, b"again")
    with RowStore(tmp_path) as store:
        assert store.get(key("b")) == ({}, b"again")


def test_a_corrupted_row_is_reported_and_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RowStore(tmp_path) as store:
        store.put(key("a"), {}, b"payload")
    pack = only_pack(tmp_path)
    pack.write_bytes(pack.read_bytes().replace(b"payload", b"pAyload"))
    with RowStore(tmp_path) as store, caplog.at_level("WARNING"):
        assert store.get(key("a")) is None
        assert key("a") not in store
    assert str(pack) in caplog.text


def test_two_processes_can_write_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=put_many, args=(tmp_path, prefix, 200)) for prefix in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with RowStore(tmp_path) as store:
        found = [store.get(key(f"{prefix}{index}")) for prefix in "ab" for index in range(200)]
    assert [row[0]["name"] for row in found if row] == [f"{prefix}{index}" for prefix in "ab" for index in range(200)]


def test_the_store_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_ROW_STORE", "/elsewhere")
    assert store_folder("bert") == Path("/elsewhere/bert")
    monkeypatch.delenv("VOICE_ROW_STORE")
    assert store_folder("bert") == Path(".rows/bert")
