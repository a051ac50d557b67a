"""Row stages: only new keys are computed, and the output depends on nothing but the rows."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stages.common.errors import RowRejected
from stages.common.files import content_key
from stages.rows import process_pool
from stages.rows.engine import (
    CHUNK_ROWS,
    ROWS_PER_PROCESS,
    ChunkFunction,
    FinishedRow,
    Row,
    RowResult,
    compute_each,
    run_rows,
)
from stages.rows.shards import ShardReader
from stages.rows.store import RowStore, store_folder
from tests.small_corpus import folder_bytes

pytestmark = pytest.mark.usefixtures("workspace")


def process(word: str) -> RowResult:
    """Spell a word backwards; "bad…" is rejected permanently, "away…" while no file `here` exists."""
    if word.startswith("bad"):
        raise RowRejected("bad_word", word)
    if word.startswith("away") and not Path("here").exists():
        raise RowRejected("unreadable", word, lasting=False)
    return {"length": len(word)}, word[::-1].encode() * 50


def compute(log: str, rows: Sequence[Row]) -> list[RowResult]:
    with Path(log).open("a", encoding="utf-8") as stream:
        stream.writelines(f"{row.payload}\n" for row in rows)
    return compute_each(process, rows)


def rows_of(words: Sequence[str]) -> list[Row]:
    return [Row(f"anna/{index:03d}", content_key(word), word) for index, word in enumerate(words)]


@dataclass(frozen=True)
class Done:
    """Results of a run by utterance id, and the number of rows that it computed."""

    rows: dict[str, FinishedRow]
    n_computed: int

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        return {name: row.facts for name, row in self.rows.items() if not row.rejected}

    @property
    def rejected(self) -> dict[str, tuple[str, str]]:
        return {name: row.rejected for name, row in self.rows.items() if row.rejected}


def run_with(function: ChunkFunction, words: Sequence[str], folder: str = "out", *, isolated: bool = False) -> Done:
    with run_rows("spell", partial(rows_of, words), function, Path(folder), isolated=isolated) as outcome:
        return Done({row.utterance_id: row for row in outcome}, outcome.n_computed)


def run(words: Sequence[str], folder: str = "out", log: str = "computed") -> Done:
    return run_with(partial(compute, str(Path(log).absolute())), words, folder)


def computed() -> list[str]:
    return sorted(Path("computed").read_text(encoding="utf-8").split()) if Path("computed").exists() else []


WORDS = [f"word{index}" for index in range(60)]


def test_results_are_placed_in_shards_with_their_facts() -> None:
    outcome = run(["one", "seven"])
    assert outcome.facts == {"anna/000": {"length": 3}, "anna/001": {"length": 5}}
    with ShardReader(Path("out")) as reader:
        read = [reader.read(row.shard, row.offset_bytes, 50 * row.facts["length"]) for row in outcome.rows.values()]
    assert read == [b"eno" * 50, b"neves" * 50]


def test_only_new_keys_are_computed() -> None:
    assert run(WORDS).n_computed == 60
    Path("computed").unlink()
    assert run(WORDS).n_computed == 0
    assert run([*WORDS, "new"]).n_computed == 1
    assert computed() == ["new"]


def test_equal_keys_are_computed_once() -> None:
    outcome = run(["same", "same", "other"])
    assert computed() == ["other", "same"]
    assert outcome.facts["anna/000"] == outcome.facts["anna/001"]


def test_incremental_and_from_scratch_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    run(WORDS[:40], "first")
    run(WORDS, "second")
    monkeypatch.setenv("VOICE_ROW_STORE", "other_rows")
    run(WORDS, "scratch")
    assert folder_bytes(Path("second")) == folder_bytes(Path("scratch"))


def test_the_number_of_workers_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*WORDS, "bad", *(f"more{index}" for index in range(ROWS_PER_PROCESS))]
    single = run(words, "one")
    monkeypatch.setenv("VOICE_WORKERS", "2")
    monkeypatch.setenv("VOICE_ROW_STORE", str(Path("other_rows").absolute()))
    double = run(words, "two")
    assert double == single
    assert folder_bytes(Path("one")) == folder_bytes(Path("two"))


def test_a_rejected_row_is_reported_and_not_computed_again() -> None:
    for n_computed in (2, 0):
        outcome = run(["good", "bad"])
        assert outcome.rejected == {"anna/001": ("bad_word", "bad")}
        assert sorted(outcome.facts) == ["anna/000"]
        assert outcome.n_computed == n_computed


def test_a_transient_reject_is_tried_again() -> None:
    assert run(["away"]).rejected == {"anna/000": ("unreadable", "away")}
    Path("here").touch()
    outcome = run(["away"])
    assert outcome.rejected == {} and outcome.facts == {"anna/000": {"length": 4}}


def damage_store() -> None:
    (pack,) = store_folder("spell").glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[-1] ^= 1
    pack.write_bytes(data)


def test_a_row_damaged_in_the_store_is_computed_again_once() -> None:
    run(["word"], "before")
    damage_store()
    for folder in ("after", "later"):
        assert run(["word"], folder).facts == {"anna/000": {"length": 4}}
        assert folder_bytes(Path("before")) == folder_bytes(Path(folder))
        assert computed() == ["word", "word"]


def test_a_transient_reject_of_a_damaged_row_is_not_stored() -> None:
    Path("here").touch()
    run(["away"])
    damage_store()
    Path("here").unlink()
    assert run(["away"]).rejected == {"anna/000": ("unreadable", "away")}
    assert not any(b"unreadable" in content for content in folder_bytes(store_folder("spell")).values())


def test_what_was_finished_before_a_crash_is_kept() -> None:
    def crash(rows: Sequence[Row]) -> list[RowResult]:
        if any(row.payload == "word40" for row in rows):
            raise OSError("power cut")
        return compute_each(process, rows)

    with pytest.raises(OSError, match="power cut"):
        run_with(crash, WORDS)
    with RowStore(store_folder("spell")) as store:
        kept = sum(row.key in store for row in rows_of(WORDS))
    assert kept == 32
    assert run(WORDS).n_computed == 28


def fall_over(rows: Sequence[Row]) -> list[RowResult]:
    if any(row.payload == "word7" for row in rows):
        os.kill(os.getpid(), signal.SIGKILL)
    return compute_each(stumble, rows)


def stumble(word: str) -> RowResult:
    return process(word) if word != "word9" else ({}, word[100].encode())


def test_a_row_with_an_unexpected_error_or_that_kills_its_worker_is_the_only_one_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "2")
    words = WORDS[:12]  # one chunk: each retry starts a process
    outcome = run_with(fall_over, words, isolated=True)
    assert {name: reason for name, (reason, _) in outcome.rejected.items()} == {
        "anna/007": "worker_died",
        "anna/009": "unexpected_error",
    }
    assert "IndexError: string index out of range" in str(outcome.rejected)
    assert len(outcome.facts) == 10
    assert run(words, "later").n_computed == 2, "neither is stored"


def where(rows: Sequence[Row]) -> list[RowResult]:
    return [({"process": os.getpid()}, fall_over([row])[0][1]) for row in rows]


def test_a_single_isolated_row_may_kill_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "2")
    assert run_with(where, ["word7"], isolated=True).rejected["anna/000"][0] == "worker_died"


@pytest.mark.parametrize(
    ("n_rows", "isolated", "n_processes"),
    [(ROWS_PER_PROCESS, False, 0), (3 * CHUNK_ROWS, True, 1), (ROWS_PER_PROCESS + 1, False, 2)],
)
def test_processes_are_started_only_for_enough_rows_or_isolated_ones(
    monkeypatch: pytest.MonkeyPatch, n_rows: int, isolated: bool, n_processes: int
) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "4")
    started: list[int] = []
    real = process_pool._pool
    monkeypatch.setattr(process_pool, "_pool", lambda n_workers: started.append(n_workers) or real(n_workers))
    done = run_with(where, [f"row{number}" for number in range(n_rows)], isolated=isolated)
    assert started == [n_processes] * bool(n_processes)
    assert all((facts["process"] == os.getpid()) is not bool(n_processes) for facts in done.facts.values())


def test_no_rows_give_no_shards() -> None:
    outcome = run([])
    assert outcome == Done({}, 0)
    assert folder_bytes(Path("out")) == {}
