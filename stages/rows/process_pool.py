"""The process engine: the work of `map_unordered` on processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from stages.common.memory import keep_freed_memory
from stages.rows.machine_settings import THREAD_SETTINGS
from stages.rows.remote_calls import CallResult, call

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

IN_FLIGHT_PER_WORKER = 4


def map_on_processes(
    function: Callable[[ItemT], ResultT],
    remaining: Iterator[ItemT],
    n_workers: int,
    give_up: Callable[[ItemT], ResultT],
) -> Iterator[ResultT]:
    """Run all items; those in flight when a worker died are retried one at a time, each in its own process."""
    suspects: list[ItemT] = []
    while True:
        yield from _fill_pool(function, remaining, n_workers, suspects)
        if not suspects:
            return
        for item in suspects:
            try:
                with _pool(1) as pool:
                    outcome = pool.submit(call, function, item).result()
            except BrokenProcessPool:
                yield give_up(item)
            else:
                yield outcome.get()
        suspects.clear()


def _pool(n_workers: int) -> ProcessPoolExecutor:
    for name in THREAD_SETTINGS:
        os.environ.setdefault(name, "1")
    return ProcessPoolExecutor(
        n_workers, mp_context=multiprocessing.get_context("spawn"), initializer=keep_freed_memory
    )


def _fill_pool(
    function: Callable[[ItemT], ResultT], items: Iterator[ItemT], n_workers: int, suspects: list[ItemT]
) -> Iterator[ResultT]:
    """Yield results until all items are done or a worker dies; the items then in flight are added to `suspects`."""
    waiting: dict[Future[CallResult[ResultT]], ItemT] = {}
    with _pool(n_workers) as pool:
        try:
            for item in items:
                try:
                    waiting[pool.submit(call, function, item)] = item
                except BrokenProcessPool:
                    suspects.append(item)
                    break
                if len(waiting) >= IN_FLIGHT_PER_WORKER * n_workers:
                    yield from _finished(waiting, suspects)
                if suspects:
                    break
            while waiting:
                yield from _finished(waiting, suspects)
        finally:
            for future in waiting:
                future.cancel()


def _finished(waiting: dict[Future[CallResult[ResultT]], ItemT], suspects: list[ItemT]) -> Iterator[ResultT]:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        item = waiting.pop(future)
        try:
            outcome = future.result()
        except BrokenProcessPool:
            suspects.append(item)
        else:
            yield outcome.get()
