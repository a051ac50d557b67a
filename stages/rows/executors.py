"""One way to spread independent work: over processes here, or behind the same interface over a Ray cluster.

Engine, address and worker count are settings of the machine, not params: they never change a result.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any, TypeVar

from stages.common.errors import ParamsError, PipelineError
from stages.common.memory import keep_freed_memory
from stages.rows.machine_settings import THREAD_SETTINGS, setting, worker_count
from stages.rows.remote_calls import Outcome, call

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

ENGINES = ("processes", "ray")
IN_FLIGHT_PER_WORKER = 4


def engine() -> str:
    """Return VOICE_EXECUTOR: `processes` (the default) or `ray`."""
    name = setting("VOICE_EXECUTOR", "processes")
    if name not in ENGINES:
        raise ParamsError(f"VOICE_EXECUTOR={name}: expected one of {', '.join(ENGINES)}")
    return name


def map_unordered(
    function: Callable[[ItemT], ResultT],
    items: Iterable[ItemT],
    *,
    needs_gpu: bool = False,
    give_up: Callable[[ItemT], ResultT] | None = None,
    apart: bool = False,
    max_processes: int | None = None,
) -> Iterator[ResultT]:
    """Yield function(item) for every item as results arrive, with a bounded number of items taken from `items` and in
    flight.

    `function` must be importable (a module-level function or a functools.partial of one). Workers run one thread
    each, so that they do not compete for cores; a single item, or a single worker, runs in this process unless
    `apart`. There are at most `max_processes`. On Ray, `needs_gpu` gives every worker a GPU of its own.

    An item that takes its worker's process down with it gives `give_up(item)`; without that, PipelineError.
    """
    give_up = give_up or _ends_the_run
    remaining = iter(items)
    first = list(islice(remaining, worker_count()))
    remaining = chain(first, remaining)
    if not first:
        return
    if engine() == "ray":
        from stages.rows.ray_cluster import map_on_ray  # only now: Ray is optional

        yield from map_on_ray(function, remaining, needs_gpu, give_up)
    elif len(first) > 1 or apart:
        yield from _map_on_processes(function, remaining, min(len(first), max_processes or len(first)), give_up)
    else:
        yield from map(function, remaining)


def _ends_the_run(item: object) -> Any:
    raise PipelineError(
        f"a worker process died over {str(item)[:200]}; if the machine ran out of memory, set VOICE_WORKERS lower"
    )


def _map_on_processes(
    function: Callable[[ItemT], ResultT],
    remaining: Iterator[ItemT],
    n_workers: int,
    give_up: Callable[[ItemT], ResultT],
) -> Iterator[ResultT]:
    """Start pools until every item had its turn: what was in flight when a worker died is tried again, one at a time."""
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
    """Yield results until the items are through; or until a worker dies, when `suspects` gets what was in flight."""
    waiting: dict[Future[Outcome[ResultT]], ItemT] = {}
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


def _finished(waiting: dict[Future[Outcome[ResultT]], ItemT], suspects: list[ItemT]) -> Iterator[ResultT]:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        item = waiting.pop(future)
        try:
            outcome = future.result()
        except BrokenProcessPool:
            suspects.append(item)
        else:
            yield outcome.get()
