"""Garbage collection: the store stays within its bounds, the longest unused goes first, and no run is disturbed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.setup.collect_garbage import SECONDS_PER_DAY, collect_garbage, find_packs
from stages.common.errors import ParamsError
from stages.rows.store import RowStore, short_key
from tests.small_corpus import ROOT


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def put(root: Path, name: str, days_ago: float, n_bytes: int = 1000) -> Path:
    """Write a pack of one row that was last used some days ago."""
    before = set((root / "spell").glob("*.pack"))
    with RowStore(root / "spell") as store:
        store.put(key(name), {}, b"x" * n_bytes)
    (pack,) = set((root / "spell").glob("*.pack")) - before
    os.utime(pack, (time.time() - days_ago * SECONDS_PER_DAY,) * 2)
    return pack


def names_left(root: Path, names: str) -> str:
    with RowStore(root / "spell") as store:
        return "".join(name for name in names if key(name) in store)


@pytest.fixture
def rows(workspace: Path) -> Path:
    for name, days_ago in (("a", 30.0), ("b", 20.0), ("c", 10.0)):
        put(workspace / "rows", name, days_ago)
    return workspace / "rows"


@pytest.mark.parametrize(
    ("max_gigabytes", "max_days", "left"),
    [(1.0, 60.0, "abc"), (1.0, 25.0, "bc"), (1.0, 15.0, "c"), (2.5e-6, 60.0, "bc"), (0.0, 60.0, ""), (1.0, 0.0, "")],
)
def test_the_longest_unused_goes_until_size_and_age_are_within_bounds(
    rows: Path, max_gigabytes: float, max_days: float, left: str
) -> None:
    collect_garbage(max_gigabytes, max_days, False)
    assert names_left(rows, "abc") == left


def test_a_row_that_was_read_counts_as_used(rows: Path) -> None:
    with RowStore(rows / "spell") as store:
        store.get(short_key(key("a")))
    collect_garbage(1.0, 15.0, False)
    assert names_left(rows, "abc") == "ac"


def test_runs_that_go_on_meanwhile_lose_nothing_but_time(rows: Path) -> None:
    with RowStore(rows / "spell") as store:
        assert store.get(short_key(key("a"))) is not None  # its pack is open now
        store.put(key("new"), {"name": "new"}, b"bytes")
        collect_garbage(0.0, 60.0, False)
        assert find_packs(rows) == []
        assert store.get(short_key(key("a"))) is not None
        assert store.get(short_key(key("new"))) == ({"name": "new"}, b"bytes")
        store.put(key("later"), {}, b"more")
        assert store.get(short_key(key("b"))) is None
        assert store.get(short_key(key("c"))) is None
        assert store.get(short_key(key("later"))) == ({}, b"more")


def test_everything_goes_with_the_training_states_on_demand(rows: Path) -> None:
    (rows.parent / "work" / "train").mkdir(parents=True)
    collect_garbage(20.0, 60.0, True)
    assert not rows.exists() and not (rows.parent / "work").exists()


def test_bounds_below_zero_are_refused(workspace: Path) -> None:
    with pytest.raises(ParamsError, match="at least 0"):
        collect_garbage(-1.0, 60.0, False)


def test_the_command_says_what_it_did(rows: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.setup.collect_garbage", "--max-days", "15"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "deleted 2 of 3 packs" in done.stderr
    assert names_left(rows, "abc") == "c"
