"""One way to spread independent work: over processes here, and behind the same interface over a cluster.

Worker counts are settings of the machine, not params: VOICE_WORKERS (default: all cores) never changes a result.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import TypeVar

from stages.common.errors import ParamsError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

IN_FLIGHT_PER_WORKER = 4
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def worker_count() -> int:
    """Return VOICE_WORKERS, or the number of cores this process may use."""
    setting = os.environ.get("VOICE_WORKERS", "")
    if not setting:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not setting.isdigit() or int(setting) < 1:
        raise ParamsError(f"VOICE_WORKERS={setting}: expected a whole number of workers, at least 1")
    return int(setting)


def map_unordered(function: Callable[[ItemT], ResultT], items: Iterable[ItemT], n_items: int) -> Iterator[ResultT]:
    """Yield function(item) for every item as results arrive, with a bounded number of items in flight.

    `function` must be importable (a module-level function or a functools.partial of one). Workers run one thread
    each, so that they do not compete for cores; a single item, or a single worker, runs in this process.
    """
    n_workers = min(worker_count(), n_items)
    if n_workers <= 1:
        for item in items:
            yield function(item)
        return
    for setting in _THREAD_SETTINGS:
        os.environ.setdefault(setting, "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
        waiting: set[Future[ResultT]] = set()
        try:
            for item in items:
                if len(waiting) >= IN_FLIGHT_PER_WORKER * n_workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
                waiting.add(pool.submit(function, item))
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in waiting:
                future.cancel()
