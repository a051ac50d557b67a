"""Parallel map of independent items over local processes or a Ray cluster, behind one interface.

Engine, address and worker count are settings of the machine, not params: they never change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

from stages.common.errors import ParamsError, PipelineError
from stages.rows.machine_settings import setting, worker_count

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

ENGINES = ("processes", "ray")


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
    isolated: bool = False,
    max_processes: int | None = None,
) -> Iterator[ResultT]:
    """Yield function(item) for every item as results arrive, with a bounded number of items in flight.

    `function` must be importable (a module-level function or a functools.partial of one). There are at most
    `max_processes` workers of one thread each, so that they do not compete for cores; a single one is this process
    unless the items are `isolated`. On Ray, `needs_gpu` gives every worker its own GPU.

    An item whose worker process dies gives `give_up(item)`; without that, PipelineError.
    """
    give_up = give_up or _raise_worker_died
    remaining = iter(items)
    first = list(islice(remaining, worker_count()))
    remaining = chain(first, remaining)
    if not first:
        return
    n_workers = min(len(first), max_processes or len(first))
    if engine() == "ray":
        from stages.rows.ray_cluster import map_on_ray  # Ray is optional

        yield from map_on_ray(function, remaining, needs_gpu, give_up)
    elif n_workers > 1 or isolated:
        from stages.rows.process_pool import map_on_processes  # not needed where all rows are stored

        yield from map_on_processes(function, remaining, n_workers, give_up)
    else:
        yield from map(function, remaining)


def _raise_worker_died(item: object) -> Any:
    raise PipelineError(
        f"a worker process died over {str(item)[:200]}; if the machine ran out of memory, set VOICE_WORKERS lower"
    )
