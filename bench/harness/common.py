"""Side-by-side timing in CPU seconds, and results with their targets as JSON and as a table."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
MIN_SAMPLE_SECONDS = 0.05  # a side is repeated until one sample lasts at least this long
MIN_ROUNDS = 5
OURS, REFERENCE, LIMIT = "ours", "reference", "limit"

BlockT = TypeVar("BlockT")
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measured figure, written to bench/NAME.json.

    `ours` and `reference` are in `unit`; `reference` is None where there is nothing to compare with. `ratio` says how
    much better ours is (above 1: better) and `limit_share` how much of the measured physical limit ours reaches.
    `target` is a ratio, or the largest value of ours where `target_of` says so.
    """

    name: str
    ours: float
    unit: str
    reference: float | None = None
    ratio: float | None = None
    limit_share: float | None = None
    target: float | None = None
    target_of: Literal["ratio", "ours_at_most"] = "ratio"
    limit_share_target: float | None = None
    rounds: int = 1
    note: str = ""

    @property
    def meets_target(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        reached = (self.ratio or 0.0) >= self.target if self.target_of == "ratio" else self.ours <= self.target
        near_limit = self.limit_share_target is None or (self.limit_share or 0.0) >= self.limit_share_target
        return reached and near_limit

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values of bench/NAME.json."""
        return {**dataclasses.asdict(self), "meets_target": self.meets_target}


@dataclass(frozen=True)
class Timings:
    """Median CPU seconds per piece of work and side, over `rounds` rounds."""

    medians: Mapping[str, float]
    rounds: int


def interleave(sides: Mapping[str, Callable[[], object]], seconds: float, work: float | Mapping[str, float]) -> Timings:
    """Time the sides in turn (A B A B …) for about `seconds` of CPU time, at least `MIN_ROUNDS` rounds.

    A call of a side does `work` pieces of work (a mapping where the sides do different amounts of the same work).
    Every side is called once before, unmeasured: compilation, imports and the page cache are not part of the figures.
    """
    repeats = {}
    for name, side in sides.items():
        side()
        repeats[name] = max(1, math.ceil(MIN_SAMPLE_SECONDS / max(_cpu_seconds(side, 1), 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in sides}
    start = time.process_time()
    collecting = gc.isenabled()
    gc.disable()
    try:
        rounds = 0
        while rounds < MIN_ROUNDS or time.process_time() - start < seconds:
            for name, side in sides.items():
                samples[name].append(_cpu_seconds(side, repeats[name]))
            rounds += 1
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    pieces = work if isinstance(work, Mapping) else dict.fromkeys(sides, work)
    return Timings({name: statistics.median(values) / pieces[name] for name, values in samples.items()}, rounds)


class OwnProcess(Generic[BlockT]):
    """A side that runs in a process of its own after `prepare`, so that its process-wide settings do not reach the
    other sides.
    """

    def __init__(self, side: Callable[[BlockT], object], prepare: Callable[[], None] | None = None) -> None:
        self._side = side
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=prepare)

    def __call__(self, block: BlockT) -> float:
        """Return the CPU seconds that the side took for a block, without those of sending it."""
        return self._pool.submit(_cpu_seconds, partial(self._side, block), 1).result()


class OnPrepared(Generic[BlockT]):
    """A bare kernel, the physical limit of a benchmark: `prepare` makes its inputs once per block, unmeasured."""

    def __init__(self, prepare: Callable[[BlockT], Iterable[Any]], kernel: Callable[[Any], object]) -> None:
        self._prepare, self._kernel = prepare, kernel
        self._block: object = None
        self._pieces: list[Any] = []

    def __call__(self, block: BlockT) -> None:
        """Run the kernel on each piece of a block."""
        if block is not self._block:
            self._block, self._pieces = block, list(self._prepare(block))
        for piece in self._pieces:
            self._kernel(piece)


def interleave_blocks(
    sides: Mapping[str, Callable[[BlockT], object]],
    blocks: Iterable[BlockT],
    n_blocks: int,
    work: Callable[[BlockT], float],
) -> Timings:
    """Time the sides in turn on one block of the data after another, so that all of it is covered in bounded memory.

    Medians, over `MIN_ROUNDS` rounds or more, of the CPU seconds per piece of `work(block)`. On every block each side
    is called once unmeasured, as in `interleave`. Blocks may be made while the loop runs: that is not measured.
    """
    samples: dict[str, list[float]] = {name: [] for name in sides}
    n_rounds = math.ceil(MIN_ROUNDS / n_blocks)
    for block in blocks:
        for side in sides.values():
            side(block)
        gc.collect()
        for _ in range(n_rounds):
            for name, side in sides.items():
                seconds = side(block) if isinstance(side, OwnProcess) else _cpu_seconds(partial(side, block), 1)
                samples[name].append(seconds / work(block))
    return Timings({name: statistics.median(values) for name, values in samples.items()}, n_rounds * n_blocks)


def cut_in_blocks(items: Sequence[ItemT], size: int) -> list[Sequence[ItemT]]:
    """Return all items in blocks of about equal length, at most `size`."""
    n_blocks = math.ceil(len(items) / size)
    return [
        items[len(items) * number // n_blocks : len(items) * (number + 1) // n_blocks] for number in range(n_blocks)
    ]


def _cpu_seconds(side: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        side()
    return (time.process_time() - start) / repeats


def cost_result(name: str, timings: Timings, *, unit: str, unit_seconds: float, **fields: Any) -> Result:
    """Return a result in CPU time per piece of work (less is better), in units of `unit_seconds`."""
    costs = {side: median / unit_seconds for side, median in timings.medians.items()}
    return Result(name=name, ours=costs[OURS], reference=costs[REFERENCE], unit=unit, **_ratios(timings), **fields)


def rate_result(name: str, timings: Timings, *, unit: str, **fields: Any) -> Result:
    """Return a result in pieces of work per CPU-second (more is better)."""
    rates = {side: 1 / median for side, median in timings.medians.items()}
    return Result(name=name, ours=rates[OURS], reference=rates[REFERENCE], unit=unit, **_ratios(timings), **fields)


def _ratios(timings: Timings) -> dict[str, Any]:
    medians = timings.medians
    limit_share = medians[LIMIT] / medians[OURS] if LIMIT in medians else None
    return {"ratio": medians[REFERENCE] / medians[OURS], "limit_share": limit_share, "rounds": timings.rounds}


def limit_threads() -> None:
    """Limit the numeric libraries of this process and its children to one thread; call it before they are imported."""
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))


def use_one_thread() -> None:
    """Limit torch to one thread; `limit_threads` does so for the other libraries."""
    import torch

    torch.set_num_threads(1)


def write_result(folder: Path, result: Result) -> Path:
    """Write bench/NAME.json and return its path."""
    path = folder / f"{result.name}.json"
    path.write_text(json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def table(results: Sequence[Result]) -> str:
    """Return the results as one aligned text table, with the notes below it."""
    header = ("name", "measured", "unit", "target", "met", "reference", "ratio", "share of limit")
    rows = [header, *(_cells(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(
            _align(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notes = [f"{result.name}: {result.note}" for result in results if result.note]
    return "\n".join([*lines, "", *notes])


def summary(results: Sequence[Result]) -> str:
    """Return how many targets are met, then one line for each that is not."""
    judged = [result for result in results if result.meets_target is not None]
    missed = [result for result in judged if not result.meets_target]
    head = (
        f"targets: {len(judged) - len(missed)} of {len(judged)} met; {len(results) - len(judged)} results "
        f"without a target"
    )
    return "\n".join([head, *(f"missed: {_describe(result)}" for result in missed)])


def _align(cell: str, width: int, column: int) -> str:
    is_text = column in {0, 2}
    return cell.ljust(width) if is_text else cell.rjust(width)


def _cells(result: Result) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "no"}[result.meets_target]
    reference = "" if result.reference is None else _number(result.reference)
    ratio = "" if result.ratio is None else f"{result.ratio:.2f} ×"
    return (
        result.name,
        _number(result.ours),
        result.unit,
        _target(result),
        met,
        reference,
        ratio,
        _limit_share(result),
    )


def _describe(result: Result) -> str:
    share = "" if result.limit_share_target is None else f", {_limit_share(result)} of the limit"
    measured = (
        f"{result.ratio or 0.0:.2f} ×" if result.target_of == "ratio" else f"{_number(result.ours)} {result.unit}"
    )
    return f"{result.name}: {measured}{share} (target {_target(result)})"


def _limit_share(result: Result) -> str:
    share = "" if result.limit_share is None else f"{result.limit_share:.0%}"
    return share if result.limit_share_target is None else f"{share} (≥ {result.limit_share_target:.0%})"


def _target(result: Result) -> str:
    if result.target is None:
        return ""
    return f"≥ {result.target:g} ×" if result.target_of == "ratio" else f"≤ {_number(result.target)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
