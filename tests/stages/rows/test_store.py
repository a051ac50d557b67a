"""The row store: finished rows come back, damage is noticed, and writers do not disturb each other."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

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


def put_one(folder: Path, name: str) -> Path:
    """Write a pack with one row and return it."""
    before = set(folder.glob("*.pack"))
    with RowStore(folder) as store:
        store.put(key(name), {}, name.encode())
    (pack,) = set(folder.glob("*.pack")) - before
    return pack


@contextmanager
def denied(monkeypatch: pytest.MonkeyPatch, number: int, is_denied: Callable[[str, bool], bool]) -> Iterator[None]:
    """Let os.open and os.mkdir fail as they do for another user's files and on a read-only file system."""
    with monkeypatch.context() as patched:
        for name in ("open", "mkdir", "utime"):
            patched.setattr(os, name, partial(_denying, getattr(os, name), number, is_denied))
        yield


def _denying(
    call: Callable[..., Any], number: int, is_denied: Callable[[str, bool], bool], *arguments: Any, **options: Any
) -> Any:
    path, *rest = arguments
    writes = call.__name__ != "open" or bool(rest[0] & (os.O_WRONLY | os.O_RDWR))
    if is_denied(str(path), writes):
        raise OSError(number, os.strerror(number), str(path))
    return call(*arguments, **options)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_pack_that_cannot_be_read_is_skipped_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    unreadable = put_one(tmp_path, "a")
    put_one(tmp_path, "b")
    with denied(monkeypatch, number, lambda path, _: path == str(unreadable)), RowStore(tmp_path) as store:
        assert store.get(short("a")) is None and store.get(short("b")) == ({}, b"b")
    assert f"{unreadable} is skipped ({os.strerror(number)})" in caplog.text


def test_a_pack_that_becomes_unreadable_during_a_run_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pack = put_one(tmp_path, "a")
    with RowStore(tmp_path) as store, denied(monkeypatch, errno.EACCES, lambda path, _: path == str(pack)):
        assert store.get(short("a")) is None
    assert f"{pack} cannot be read (Permission denied)" in caplog.text


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "text", "empty"])
def test_what_is_no_pack_is_passed_over(tmp_path: Path, kind: str) -> None:
    foreign = tmp_path / "0.pack"
    {
        "pipe": lambda: os.mkfifo(foreign),
        "folder": foreign.mkdir,
        "device": lambda: foreign.symlink_to("/dev/zero"),
        "text": lambda: foreign.write_text("row2 and then something else\n" * 10),
        "empty": foreign.touch,
    }[kind]()
    put_one(tmp_path, "a")
    with RowStore(tmp_path) as store:
        assert store.get(short("a")) == ({}, b"a")


@pytest.mark.parametrize("meta", [b"{", b"[]", b"\xff", b"[" * 100_000, b""])
def test_a_record_with_right_checksums_and_no_facts_is_damaged(tmp_path: Path, meta: bytes) -> None:
    fields = row_store._FIELDS.pack(b"row2", bytes.fromhex(key("a")), len(meta), 0)
    checksums = row_store._CHECKSUMS.pack(xxh3_64_intdigest(fields), xxh3_64_intdigest(meta))
    (tmp_path / "0.pack").write_bytes(fields + checksums + meta)
    with RowStore(tmp_path) as store:
        assert key("a") in store and store.get(short("a")) is None


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_store_that_cannot_be_written_serves_its_rows_and_those_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    put_one(tmp_path, "a")
    files = sorted(tmp_path.iterdir())
    with denied(monkeypatch, number, lambda path, writes: writes and path.startswith(str(tmp_path))):
        with RowStore(tmp_path) as store, store.scratch_file() as scratch:
            scratch.write(b"facts")
            assert store.get(short("a")) == ({}, b"a")
            assert not caplog.records, "nothing had to be written"
            for name in ("b", "c"):
                store.put(key(name), {"name": name}, name.encode())
            assert store.get(short("b")) == ({"name": "b"}, b"b") and store.get(short("c")) == ({"name": "c"}, b"c")
        with RowStore(tmp_path / "new") as store:
            store.put(key("d"), {}, b"d")
            assert store.get(short("d")) == ({}, b"d")
    assert sorted(tmp_path.iterdir()) == files
    assert caplog.text.count("is not writable; what this run computes is not kept") == 2
