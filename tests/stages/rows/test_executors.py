"""Executors: results of every item, whatever the number of workers, and errors that surface."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from stages.common.errors import ParamsError, PipelineError, StageError
from stages.rows.executors import map_unordered
from stages.rows.machine_settings import worker_count


def square(number: int) -> tuple[int, int]:
    if number == 13:
        raise ValueError("thirteen")
    return number**2, os.getpid()


@pytest.mark.parametrize("setting", ["0", "-1", "two", "1.5", " "])
def test_a_worker_count_that_is_no_whole_number_is_refused(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("VOICE_WORKERS", setting)
    with pytest.raises(ParamsError, match=f"VOICE_WORKERS={setting}: expected a whole number"):
        worker_count()


def test_the_default_is_every_core_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOICE_WORKERS", raising=False)
    assert worker_count() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("VOICE_WORKERS", "7")
    assert worker_count() == 7


def test_one_worker_runs_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "1")
    assert list(map_unordered(square, [1, 2])) == [(1, os.getpid()), (4, os.getpid())]


def test_several_workers_run_elsewhere_and_give_every_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "2")
    numbers = [number for number in range(50) if number != 13]
    results = list(map_unordered(square, iter(numbers)))
    assert sorted(result for result, _ in results) == [number**2 for number in numbers]
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_error_in_a_worker_surfaces(monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    monkeypatch.setenv("VOICE_WORKERS", workers)
    with pytest.raises(ValueError, match="thirteen"):
        list(map_unordered(square, range(20)))


def die_over(bad: int, number: int) -> int:
    if number == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_an_item_that_kills_its_worker_is_given_up_and_the_others_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "2")
    results = list(map_unordered(partial(die_over, 3), range(5), give_up=lambda number: -number))
    assert sorted(results) == [-3, 0, 1, 2, 4]


def test_a_worker_that_dies_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "2")
    with pytest.raises(
        PipelineError, match="a worker process died over 1; if the machine ran out of memory, set VOICE_WORKERS lower"
    ):
        list(map_unordered(partial(die_over, 1), range(2)))


def lack_a_shard(number: int) -> int:
    raise StageError(f"anna/{number}", "shards/5.bin", "is missing")


def test_a_stage_error_in_a_worker_comes_back_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "2")
    with pytest.raises(StageError, match="shards/5.bin, utterance 'anna/.': is missing"):
        list(map_unordered(lack_a_shard, range(4)))


def test_no_items_need_no_workers() -> None:
    assert list(map_unordered(square, [])) == []
