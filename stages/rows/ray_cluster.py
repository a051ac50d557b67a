"""The Ray engine: the work of `map_unordered` on every node of a Ray cluster.

Nodes see the project and its data under the same paths (shared storage). Workers are actors of one CPU (or GPU) that
keep
what they load, such as an encoder. They write nothing: results go to the driver, which alone writes. When a node dies,
what
its workers had in hand is done by others; workers on a node that joins, or that an autoscaler starts, take part.

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

IN_FLIGHT_PER_WORKER = 2  # one at work, one on its way
MAX_DEATHS = 3  # workers that may die over one item
POLL_SECONDS = 2.0
SILENT_SECONDS = 60.0  # without any worker, until a log line says so
PROCESSOR_FLAGS = frozenset({"avx2", "avx512f", "fma"})  # what numeric libraries choose their kernels by


def describe_node(with_gpu: bool) -> dict[str, str]:
    """Return what a row's bytes can depend on besides its inputs: code, packages, processor, GPU."""
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
    """Finds what `python -m stages.NAME` defined, which is pickled as `__main__`'s, in that module."""

    def __init__(self, data: bytes, main_module: str) -> None:
        super().__init__(io.BytesIO(data))
        self._main_module = main_module

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(self._main_module if module == "__main__" else module, name)


class Worker:
    """One process on a node. It starts with the driver's folder and environment (see `_options`)."""

    def __init__(self, main_module: str) -> None:
        self._main_module = main_module
        self._function: Callable[[Any], Any] | None = None

    def start(self, folder: str, function: bytes, with_gpu: bool) -> tuple[str, dict[str, str]]:
        """Take up the work; returns the node's name and what it is made of. Raises FileNotFoundError for a folder not
        shared.
        """
        os.chdir(folder)
        keep_freed_memory()
        self._function = _Unpickler(function, self._main_module).load()
        return platform.node(), describe_node(with_gpu)

    def run(self, item: bytes) -> CallResult[Any]:
        """Return what the function gives or raises for a pickled item."""
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
class _Hand:
    """A worker and what it has in hand, oldest first; `ready` once it has started."""

    actor: Any
    start: Any
    ready: bool = False
    jobs: dict[Any, _Job[Any]] = field(default_factory=dict)


def map_on_ray(
    function: Callable[[ItemT], ResultT], items: Iterable[ItemT], needs_gpu: bool, give_up: Callable[[ItemT], ResultT]
) -> Iterator[ResultT]:
    """Yield function(item) for every item as results arrive; see `executors.map_unordered`.

    Starts a worker for every CPU (with `needs_gpu`: GPU) of the cluster, or VOICE_WORKERS of them: on a cluster that
    grows on
    demand, those that find no room are the demand. Raises PipelineError for a cluster that cannot be used.
    """
    team: _Team[ItemT, ResultT] = _Team(function, iter(items), needs_gpu, give_up)
    try:
        yield from team.work()
    finally:
        team.dismiss()


class _Team(Generic[ItemT, ResultT]):
    """The workers of one map."""

    def __init__(
        self,
        function: Callable[[ItemT], ResultT],
        items: Iterator[ItemT],
        needs_gpu: bool,
        give_up: Callable[[ItemT], ResultT],
    ) -> None:
        self._ray = connect()
        self._lost = (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError)
        self._give_up = give_up
        self._items = items
        self._needs_gpu = needs_gpu
        self._here = describe_node(needs_gpu)
        specification = getattr(sys.modules["__main__"], "__spec__", None)
        self._main_module = specification.name if specification else "__main__"
        self._function = pickle.dumps(function)
        self._hands: list[_Hand] = []
        self._next: deque[_Job[ItemT]] = (
            deque()
        )  # what dead workers had in hand, then what was taken from the items ahead of need
        self._counted = self._spoke = -SILENT_SECONDS
        self._n_wanted = 0

    def work(self) -> Iterator[ResultT]:
        while True:
            self._count_places()
            self._look_ahead(max(1, self._n_wanted))
            if not self._next and not any(hand.jobs for hand in self._hands):
                return
            self._hire()
            self._hand_out()
            pending = [reference for hand in self._hands for reference in (hand.jobs if hand.ready else [hand.start])]
            done, _ = self._ray.wait(pending, timeout=POLL_SECONDS) if pending else ([], [])
            if not pending:
                time.sleep(POLL_SECONDS)
            self._mention_idleness()
            for reference in done:
                yield from self._take(reference)

    def dismiss(self) -> None:
        for hand in self._hands:
            self._ray.kill(hand.actor)
        self._hands.clear()

    def _count_places(self) -> None:
        if time.monotonic() > self._counted + POLL_SECONDS:
            self._counted = time.monotonic()
            n_places = int(self._ray.cluster_resources().get("GPU" if self._needs_gpu else "CPU", 0))
            self._n_wanted = worker_count() if setting("VOICE_WORKERS") else n_places

    def _hire(self) -> None:
        while len(self._hands) < min(self._n_wanted, len(self._next) + sum(len(hand.jobs) for hand in self._hands)):
            actor = self._ray.remote(Worker).options(**self._options()).remote(self._main_module)
            self._hands.append(_Hand(actor, actor.start.remote(str(Path.cwd()), self._function, self._needs_gpu)))

    def _options(self) -> dict[str, Any]:
        """Return an actor's options: kernels and threads are chosen by its environment, before anything is imported."""
        environment = {name: "1" for name in THREAD_SETTINGS}
        environment |= {name: os.environ[name] for name in ("MKL_CBWR", "VOICE_LOG_LEVEL") if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join([str(project_root()), os.environ.get("PYTHONPATH", "")]).rstrip(
            os.pathsep
        )
        return {"num_cpus": 1, "num_gpus": int(self._needs_gpu), "runtime_env": {"env_vars": environment}}

    def _hand_out(self) -> None:
        free = [hand for _ in range(IN_FLIGHT_PER_WORKER) for hand in self._hands if hand.ready]
        for hand in free:
            if len(hand.jobs) >= IN_FLIGHT_PER_WORKER:
                continue
            self._look_ahead(1)
            if not self._next:
                return
            job = self._next.popleft()
            hand.jobs[hand.actor.run.remote(pickle.dumps(job.item))] = job

    def _look_ahead(self, n_jobs: int) -> None:
        """Take items until so many jobs are waiting, if there are as many."""
        self._next.extend(_Job(item) for item in islice(self._items, max(0, n_jobs - len(self._next))))

    def _take(self, reference: Any) -> Iterator[ResultT]:
        hand = next((hand for hand in self._hands if reference == hand.start or reference in hand.jobs), None)
        if hand is None:  # its worker's other result has just told of its death
            return
        try:
            value = self._ray.get(reference)
        except self._lost:
            yield from self._bury(hand)
            return
        except self._ray.exceptions.RayTaskError as error:
            raise PipelineError(
                f"a Ray worker cannot start in {Path.cwd()}: {str(error.cause)[:200]}; every node needs the project "
                "and its data under the same path (shared storage)"
            ) from None
        if not hand.ready:
            self._compare(*value)
            hand.ready = True
            logger.info("ray: a worker started on %s; %d at work", value[0], sum(hand.ready for hand in self._hands))
            return
        del hand.jobs[reference]
        yield value.get()

    def _compare(self, node: str, there: dict[str, str]) -> None:
        for name, here in self._here.items():
            if there.get(name) != here:
                raise PipelineError(
                    f"Ray node {node}: {name} is {there.get(name)} there and {here} here, so that results could differ; "
                    "make the nodes alike (`make setup`), or take it out of the cluster"
                )

    def _bury(self, hand: _Hand) -> Iterator[ResultT]:
        """Take a dead worker's jobs back: the first was at work when it died, the others waited."""
        logger.warning("ray: a worker died; the %d items that it had in hand are done again", len(hand.jobs))
        self._hands.remove(hand)
        self._ray.kill(hand.actor)
        for index, job in enumerate(hand.jobs.values()):
            job.deaths += index == 0
            if job.deaths < MAX_DEATHS:
                self._next.appendleft(job)
            else:
                yield self._give_up(job.item)

    def _mention_idleness(self) -> None:
        if any(hand.ready for hand in self._hands):
            self._spoke = time.monotonic()
        elif time.monotonic() > self._spoke + SILENT_SECONDS:
            if self._spoke > 0:
                logger.warning(
                    "ray: no worker has started for %.0f s; waiting for free CPUs or new nodes (`ray status` shows them)",
                    SILENT_SECONDS,
                )
            self._spoke = time.monotonic()
