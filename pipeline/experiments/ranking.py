"""How the experiments of a sweep rank, as a table and as a picture."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.experiments.search_space import Dimension
from stages.common.files import atomic_path
from stages.reporting.pages import as_png

TABLE, PICTURE = "ranking.csv", "parallel_coordinates.png"
GROUND, PALE = "#ffffff", "#c8ccd4"
MARGIN = 0.06


@dataclass
class Trial:
    """A combination of values (in YAML) and what its experiments, one for each seed, came to; `problems` has the
    failures.
    """

    name: str
    values: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Return the mean over the seeds; NaN where none is finished."""
        return statistics.fmean(self.figures.values()) if self.figures else math.nan

    @property
    def spread(self) -> float | None:
        """Return the standard deviation over the seeds; None with fewer than two."""
        return statistics.stdev(self.figures.values()) if len(self.figures) > 1 else None


def rank(trials: Sequence[Trial], *, maximise: bool) -> list[Trial]:
    """Return the trials, the best first and those without a figure last."""
    return sorted(
        trials, key=lambda trial: (math.isnan(trial.mean), -trial.mean if maximise else trial.mean, trial.name)
    )


def table(ranked: Sequence[Trial], metric: str) -> list[dict[str, Any]]:
    """Return the ranking as rows: rank, values, mean and standard deviation over the seeds, experiments, failures."""
    rows = []
    for place, trial in enumerate(ranked, start=1):
        rows.append(
            {
                "rank": place if trial.figures else "-",
                **trial.values,
                metric: _rounded(trial.mean) if trial.figures else "-",
                "standard deviation of seeds": "-" if trial.spread is None else _rounded(trial.spread),
                "experiments": ", ".join(trial.figures),
                "failed": "; ".join(trial.problems) or "-",
            }
        )
    return rows


def write(folder: Path, rows: Sequence[dict[str, Any]], picture: bytes | None) -> None:
    """Write the table and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / TABLE) as path, path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    if picture is not None:
        with atomic_path(folder / PICTURE) as path:
            path.write_bytes(picture)


def parallel_coordinates(
    dimensions: Sequence[Dimension], trials: Sequence[Trial], metric: str, *, maximise: bool
) -> bytes | None:
    """Return a line through each trial's values to its metric, coloured by it, with a thin one for each seed; None
    without a figure.
    """
    finished = [trial for trial in trials if trial.figures]
    if not finished:
        return None
    figures = [value for trial in finished for value in trial.figures.values()]
    low, high = min(figures), max(figures)
    scale = (lambda value: (value - low) / (high - low)) if high > low else (lambda value: 0.5)
    better = scale if maximise else (lambda value: 1 - scale(value))
    figure = Figure(figsize=(1.9 * (len(dimensions) + 1) + 1.2, 4.2), dpi=130, facecolor=GROUND)
    axes = figure.add_subplot()
    places = [_Places(dimension, [trial.values[dimension.name] for trial in finished]) for dimension in dimensions]
    colours = matplotlib.colormaps["viridis"]
    for trial in reversed(rank(finished, maximise=maximise)):
        heights = [place.height(trial.values[place.dimension.name]) for place in places]
        for value in trial.figures.values():
            axes.plot(range(len(heights) + 1), [*heights, scale(value)], color=PALE, linewidth=0.7, zorder=1)
        axes.plot(
            range(len(heights) + 1),
            [*heights, scale(trial.mean)],
            color=colours(0.9 - 0.85 * better(trial.mean)),
            linewidth=1.8,
            zorder=2,
        )
    for number, place in enumerate(places):
        _axis(axes, number, place.marks())
    _axis(axes, len(places), [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")] if high > low else [(0.5, f"{low:.4g}")])
    axes.set_xticks(
        range(len(places) + 1), [*(dimension.name.replace(".", ".\n") for dimension in dimensions), metric], fontsize=8
    )
    axes.set_xlim(-0.3, len(places) + 0.4)
    axes.set_ylim(-MARGIN, 1 + MARGIN)
    axes.yaxis.set_visible(False)
    axes.set_title(f"dark is better ({'higher' if maximise else 'lower'} {metric}); thin lines are seeds", fontsize=9)
    for side in axes.spines.values():
        side.set_visible(False)
    return as_png(figure, 0.8)


class _Places:
    """Where the values of a dimension lie on its axis, from 0 to 1."""

    def __init__(self, dimension: Dimension, values: Sequence[Any]) -> None:
        self.dimension = dimension
        self._values = values
        self._order = [json.dumps(choice, ensure_ascii=False) for choice in dimension.choices]

    def height(self, value: Any) -> float:
        if self._order:
            return self._order.index(value) / max(1, len(self._order) - 1)
        low, high, value = (
            math.log(each) if self.dimension.log else each for each in (self.dimension.low, self.dimension.high, value)
        )
        return float((value - low) / (high - low))

    def marks(self) -> list[tuple[float, str]]:
        if self._order:
            return [(self.height(text), text.strip('"')) for text in self._order]
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


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
