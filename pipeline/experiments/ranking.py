"""The ranking of a sweep's experiments as a table and a parallel coordinates plot."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.experiments.search_space import Dimension
from stages.common.files import atomic_path, write_csv
from stages.reporting.pages import as_png

TABLE, PICTURE = "ranking.csv", "parallel_coordinates.png"
GROUND, PALE = "#ffffff", "#c8ccd4"
MARGIN = 0.06


@dataclass
class Trial:
    """A combination of values (in YAML), and the figures and failures of its experiments, one experiment per seed."""

    name: str
    values: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Return the mean over the seeds; NaN if none has finished."""
        return statistics.fmean(self.figures.values()) if self.figures else math.nan


def rank(trials: Sequence[Trial], metric: str, *, maximise: bool) -> pd.DataFrame:
    """Return a row per trial, the best first and those without a figure last; missing values are "-"."""
    table = pd.DataFrame([trial.values for trial in trials])
    figures = pd.DataFrame([trial.figures for trial in trials], dtype=float, index=table.index)
    table[metric] = figures.mean(axis=1)
    table["standard deviation of seeds"] = figures.std(axis=1)
    table["experiments"] = [", ".join(trial.figures) for trial in trials]
    table["failed"] = ["; ".join(trial.problems) or None for trial in trials]
    places = table[metric].rank(method="first", ascending=not maximise)
    table.insert(0, "rank", places.astype("Int64"))
    for column in (metric, "standard deviation of seeds"):
        table[column] = table[column].map("{:.5g}".format).astype(float)
    return table.sort_values("rank").astype(object).where(table.notna(), "-")


def write(folder: Path, ranking: pd.DataFrame, picture: bytes | None) -> None:
    """Write the ranking and its plot."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / TABLE, ranking)
    if picture is not None:
        with atomic_path(folder / PICTURE) as path:
            path.write_bytes(picture)


def parallel_coordinates(
    dimensions: Sequence[Dimension], trials: Sequence[Trial], metric: str, *, maximise: bool
) -> bytes | None:
    """Plot a line per trial through its values to its metric, and a thin one per seed; None without a figure."""
    finished = [trial for trial in trials if trial.figures]
    if not finished:
        return None
    figures = [value for trial in finished for value in trial.figures.values()]
    low, high = min(figures), max(figures)
    scale = (lambda value: (value - low) / (high - low)) if high > low else (lambda value: 0.5)
    better = scale if maximise else (lambda value: 1 - scale(value))
    figure = Figure(figsize=(1.9 * (len(dimensions) + 1) + 1.2, 4.2), dpi=130, facecolor=GROUND)
    axes = figure.add_subplot()
    positions = [
        _Positions(dimension, [trial.values[dimension.name] for trial in finished]) for dimension in dimensions
    ]
    colours = matplotlib.colormaps["viridis"]
    for trial in sorted(finished, key=lambda trial: trial.mean, reverse=not maximise):  # the best on top
        heights = [position.of(trial.values[position.dimension.name]) for position in positions]
        for value in trial.figures.values():
            axes.plot(range(len(heights) + 1), [*heights, scale(value)], color=PALE, linewidth=0.7, zorder=1)
        axes.plot(
            range(len(heights) + 1),
            [*heights, scale(trial.mean)],
            color=colours(0.9 - 0.85 * better(trial.mean)),  # type: ignore[no-untyped-call]
            linewidth=1.8,
            zorder=2,
        )
    for number, position in enumerate(positions):
        _axis(axes, number, position.marks())
    _axis(axes, len(positions), [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")] if high > low else [(0.5, f"{low:.4g}")])
    axes.set_xticks(
        range(len(positions) + 1),
        [*(dimension.name.replace(".", ".\n") for dimension in dimensions), metric],
        fontsize=8,
    )
    axes.set_xlim(-0.3, len(positions) + 0.4)
    axes.set_ylim(-MARGIN, 1 + MARGIN)
    axes.yaxis.set_visible(False)
    axes.set_title(f"dark is better ({'higher' if maximise else 'lower'} {metric}); thin lines are seeds", fontsize=9)
    for side in axes.spines.values():
        side.set_visible(False)
    return as_png(figure, 0.8)


class _Positions:
    """Positions of a dimension's values on its axis, from 0 to 1."""

    def __init__(self, dimension: Dimension, values: Sequence[Any]) -> None:
        self.dimension = dimension
        self._values = values
        self._order = [json.dumps(choice, ensure_ascii=False) for choice in dimension.choices]

    def of(self, value: Any) -> float:
        if self._order:
            return self._order.index(value) / max(1, len(self._order) - 1)
        low, high, value = (
            math.log(each) if self.dimension.log else each for each in (self.dimension.low, self.dimension.high, value)
        )
        return float((value - low) / (high - low))

    def marks(self) -> list[tuple[float, str]]:
        if self._order:
            return [(self.of(text), text.strip('"')) for text in self._order]
        return [(0.0, f"{self.dimension.low:.4g}"), (1.0, f"{self.dimension.high:.4g}")]


def _axis(axes: Axes, number: int, marks: Sequence[tuple[float, str]]) -> None:
    axes.axvline(number, color="#1b2029", linewidth=0.8, zorder=0)
    for height, text in marks:
        axes.annotate(
            text,
            (number, height),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
            zorder=3,
            bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        )
