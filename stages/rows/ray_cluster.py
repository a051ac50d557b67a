"""The Ray engine: the work of `map_unordered` on every node of a Ray cluster.

All nodes see the project and its data under the same paths (shared storage). Workers are actors of one CPU (or GPU)
that keep loaded objects such as an encoder. They write nothing: only the driver writes. When a node dies, other workers
take over its jobs; workers on nodes that join later, or that an autoscaler starts, are used.

A worker whose code, packages, processor or GPU differ from the driver's could give other bytes, so it ends the run.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from stages.common.code_graph import project_root
from stages.common.errors import PipelineError
from stages.common.memory import keep_freed_memory
from stages.rows.machine_settings import THREAD_SETTINGS, setting, worker_count
from stages.rows.remote_calls import CallResult, call

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

IN_FLIGHT_PER_WORKER = 2  # one running, one queued
MAX_DEATHS = 3  # worker deaths before an item is given up
POLL_SECONDS = 2.0
SILENT_SECONDS = 60.0  # without any worker, before a warning is logged
PROCESSOR_FLAGS = frozenset({"avx2", "avx512f", "fma"})  # what numeric libraries choose their kernels by


def describe_node(with_gpu: bool) -> dict[str, str]:
    """Return the properties besides its inputs that a row's bytes can depend on: code, packages, processor, GPU."""
    root = project_root()
    code = hashlib.sha256()
    for path in sorted(path for package in ("model", "stages") for path in (root / package).rglob("*.py")):
        code.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    lines = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    facts = {name: _version(name) for name, equals, _ in (line.partition("==") for line in lines) if equals}
    cpuinfo = Path("/proc/cpuinfo")
    flags = (
        PROCESSOR_FLAGS & set(cpuinfo.read_text(encoding="ascii", errors="ignore").split())
        if cpuinfo.is_file()
        else set()
    )
    facts |= {
        "the project's code": code.hexdigest()[:12],
        "Python": platform.python_version(),
        "the processor": " ".join([platform.machine(), *sorted(flags)]),
    }
    if with_gpu:
        import torch

        facts["the GPU"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


class _Unpickler(pickle.Unpickler):
    """Unpickler that resolves `__main__`, as pickled by `python -m stages.NAME`, to that module."""

    def __init__(self, data: bytes, main_module: str) -> None:
        super().__init__(io.BytesIO(data))
        self._main_module = main_module

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(self._main_module if module == "__main__" else module, name)


class Worker:
    """Process on a node, started with the driver's folder and environment (see `_options`)."""

    def __init__(self, main_module: str) -> None:
        self._main_module = main_module
        self._function: Callable[[Any], Any] | None = None

    def start(self, folder: str, function: bytes, with_gpu: bool) -> tuple[str, dict[str, str]]:
        """Load the function; return the node's name and properties. Raises FileNotFoundError for an unshared folder."""
        os.chdir(folder)
        keep_freed_memory()
        self._function = _Unpickler(function, self._main_module).load()
        return platform.node(), describe_node(with_gpu)

    def run(self, item: bytes) -> CallResult[Any]:
        """Return the function's result or error for a pickled item."""
        if self._function is None:
            raise RuntimeError("run before start")
        return call(self._function, _Unpickler(item, self._main_module).load())


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise PipelineError(
            "VOICE_EXECUTOR=ray: Ray is not installed; run `make ray` on every node, or set VOICE_EXECUTOR=processes"
        ) from None
    return ray


def connect() -> Any:
    """Return the module `ray`, connected to VOICE_RAY_ADDRESS (default: the cluster of this machine's node)."""
    ray = _ray()
    if not ray.is_initialized():
        address = setting("VOICE_RAY_ADDRESS", "auto")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
            raise PipelineError(
                f"VOICE_RAY_ADDRESS={address}: no Ray cluster answers ({' '.join(str(error).split())[:160]}); "
                "start one with `ray start --head`, or set VOICE_EXECUTOR=processes"
            ) from None
    return ray


@dataclass
class _Job(Generic[ItemT]):
    item: ItemT
    deaths: int = 0


@dataclass
class _WorkerState:
    """Worker with its submitted jobs, oldest first; `ready` once it has started."""

    actor: Any
    start: Any
    ready: bool = False
    jobs: dict[Any, _Job[Any]] = field(default_factory=dict)


def map_on_ray(
    function: Callable[[ItemT], ResultT], items: Iterable[ItemT], needs_gpu: bool, give_up: Callable[[ItemT], ResultT]
) -> Iterator[ResultT]:
    """Yield function(item) for every item as results arrive; see `executors.map_unordered`.

    Starts a worker per CPU (with `needs_gpu`: per GPU) of the cluster, or VOICE_WORKERS of them; those without a free
    slot make an autoscaler add nodes. Raises PipelineError for a cluster that cannot be used.
    """
    workers: _WorkerPool[ItemT, ResultT] = _WorkerPool(function, iter(items), needs_gpu, give_up)
    try:
        yield from workers.run()
    finally:
        workers.shut_down()


class _WorkerPool(Generic[ItemT, ResultT]):
    """Workers of one `map_on_ray` call."""

    def __init__(
        self,
        function: Callable[[ItemT], ResultT],
        items: Iterator[ItemT],
        needs_gpu: bool,
        give_up: Callable[[ItemT], ResultT],
    ) -> None:
        self._ray = connect()
        self._death_errors = (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError)
        self._give_up = give_up
        self._items = items
        self._needs_gpu = needs_gpu
        self._driver_facts = describe_node(needs_gpu)
        specification = getattr(sys.modules["__main__"], "__spec__", None)
        self._main_module = specification.name if specification else "__main__"
        self._function = pickle.dumps(function)
        self._workers: list[_WorkerState] = []
        self._queue: deque[_Job[ItemT]] = deque()  # jobs of dead workers, then prefetched items
        self._last_counted = self._last_warned = -SILENT_SECONDS
        self._n_target = 0

    def run(self) -> Iterator[ResultT]:
        """Yield results until all items are done."""
        while True:
            self._update_worker_target()
            self._fetch_jobs(max(1, self._n_target))
            if not self._queue and not any(worker.jobs for worker in self._workers):
                return
            self._start_workers()
            self._submit_jobs()
            pending = [
                reference for worker in self._workers for reference in (worker.jobs if worker.ready else [worker.start])
            ]
            done, _ = self._ray.wait(pending, timeout=POLL_SECONDS) if pending else ([], [])
            if not pending:
                time.sleep(POLL_SECONDS)
            self._warn_if_idle()
            for reference in done:
                yield from self._receive(reference)

    def shut_down(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers.clear()

    def _update_worker_target(self) -> None:
        if time.monotonic() > self._last_counted + POLL_SECONDS:
            self._last_counted = time.monotonic()
            n_slots = int(self._ray.cluster_resources().get("GPU" if self._needs_gpu else "CPU", 0))
            self._n_target = worker_count() if setting("VOICE_WORKERS") else n_slots

    def _start_workers(self) -> None:
        while len(self._workers) < min(
            self._n_target, len(self._queue) + sum(len(worker.jobs) for worker in self._workers)
        ):
            actor = self._ray.remote(Worker).options(**self._options()).remote(self._main_module)
            self._workers.append(
                _WorkerState(actor, actor.start.remote(str(Path.cwd()), self._function, self._needs_gpu))
            )

    def _options(self) -> dict[str, Any]:
        """Return an actor's options; its environment selects kernels and threads before anything is imported."""
        environment = {name: "1" for name in THREAD_SETTINGS}
        environment |= {name: os.environ[name] for name in ("MKL_CBWR", "VOICE_LOG_LEVEL") if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join([str(project_root()), os.environ.get("PYTHONPATH", "")]).rstrip(
            os.pathsep
        )
        return {"num_cpus": 1, "num_gpus": int(self._needs_gpu), "runtime_env": {"env_vars": environment}}

    def _submit_jobs(self) -> None:
        free = [worker for _ in range(IN_FLIGHT_PER_WORKER) for worker in self._workers if worker.ready]
        for worker in free:
            if len(worker.jobs) >= IN_FLIGHT_PER_WORKER:
                continue
            self._fetch_jobs(1)
            if not self._queue:
                return
            job = self._queue.popleft()
            worker.jobs[worker.actor.run.remote(pickle.dumps(job.item))] = job

    def _fetch_jobs(self, n_jobs: int) -> None:
        """Take items until `n_jobs` jobs are queued or none are left."""
        self._queue.extend(_Job(item) for item in islice(self._items, max(0, n_jobs - len(self._queue))))

    def _receive(self, reference: Any) -> Iterator[ResultT]:
        worker = next(
            (worker for worker in self._workers if reference == worker.start or reference in worker.jobs), None
        )
        if worker is None:  # the death of its worker was seen through another result
            return
        try:
            value = self._ray.get(reference)
        except self._death_errors:
            yield from self._reclaim_jobs(worker)
            return
        except self._ray.exceptions.RayTaskError as error:
            raise PipelineError(
                f"a Ray worker cannot start in {Path.cwd()}: {str(error.cause)[:200]}; every node needs the project "
                "and its data under the same path (shared storage)"
            ) from None
        if not worker.ready:
            self._compare(*value)
            worker.ready = True
            logger.info(
                "ray: a worker started on %s; %d running", value[0], sum(worker.ready for worker in self._workers)
            )
            return
        del worker.jobs[reference]
        yield value.get()

    def _compare(self, node: str, there: dict[str, str]) -> None:
        for name, here in self._driver_facts.items():
            if there.get(name) != here:
                raise PipelineError(
                    f"Ray node {node}: {name} is {there.get(name)} there and {here} here, so results could differ; "
                    "run `make setup` on every node, or remove the node from the cluster"
                )

    def _reclaim_jobs(self, worker: _WorkerState) -> Iterator[ResultT]:
        """Queue a dead worker's jobs again; the first was running when it died, the others were waiting."""
        logger.warning("ray: a worker died; its %d items are computed again", len(worker.jobs))
        self._workers.remove(worker)
        self._ray.kill(worker.actor)
        for index, job in enumerate(worker.jobs.values()):
            job.deaths += index == 0
            if job.deaths < MAX_DEATHS:
                self._queue.appendleft(job)
            else:
                yield self._give_up(job.item)

    def _warn_if_idle(self) -> None:
        if any(worker.ready for worker in self._workers):
            self._last_warned = time.monotonic()
        elif time.monotonic() > self._last_warned + SILENT_SECONDS:
            if self._last_warned > 0:
                logger.warning(
                    "ray: no worker has started for %.0f s; waiting for free CPUs or new nodes (see `ray status`)",
                    SILENT_SECONDS,
                )
            self._last_warned = time.monotonic()
