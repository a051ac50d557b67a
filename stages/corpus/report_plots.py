"""Pictures of a corpus: how its findings are distributed, and lengths against texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.corpus.quality import n_characters
from stages.reporting.pages import as_png

KEPT, SET_ASIDE = "#4c78d0", "#d9534f"
INK = "#6f7683"  # readable on a white and on a dark page: the pictures have no ground of their own
PAD = 0.4
DOTS_PER_INCH = 120
SIZE_INCHES = (4.6, 2.5)
N_BINS = 40


@dataclass(frozen=True)
class Histogram:
    """What to draw of a finding: its unit, and the limit that rejects."""

    unit: str
    limit: float | None = None


def histogram(kept: Sequence[float], set_aside: Sequence[float], plan: Histogram) -> bytes:
    """Return a PNG of the numbers of utterances by value, what was rejected on top of what was kept."""
    figure, axes = _figure()
    values = np.array([*kept, *set_aside], dtype=float)
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(abs(low), 1e-9):  # one bar for one value
        low, high = low - max(0.05 * abs(low), 1e-3), high + max(0.05 * abs(high), 1e-3)
    axes.hist(
        [list(kept), list(set_aside)],
        bins=np.linspace(low, high, N_BINS + 1).tolist(),
        stacked=True,
        color=[KEPT, SET_ASIDE],
    )
    if (
        plan.limit is not None and abs(plan.limit - (low + high) / 2) < high - low
    ):  # a limit far away would squeeze the rest
        axes.axvline(plan.limit, color=SET_ASIDE, linestyle="--", linewidth=1.2)
    axes.set_xlabel(plan.unit, color=INK, fontsize=8)
    axes.set_ylabel("utterances", color=INK, fontsize=8)
    return as_png(figure, PAD)


def lengths_by_text(kept: Sequence[Mapping[str, Any]], set_aside: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a PNG of every utterance's seconds against the characters of its text."""
    figure, axes = _figure()
    for rows, colour in ((kept, KEPT), (set_aside, SET_ASIDE)):
        points = [(n_characters(row["text"]), row["n_samples"] / row["sample_rate_hz"]) for row in rows]
        axes.scatter(
            [count for count, _ in points],
            [seconds for _, seconds in points],
            s=5,
            color=colour,
            alpha=0.6,
            linewidths=0,
        )
    axes.set_xlabel("letters, syllable signs and digits", color=INK, fontsize=8)
    axes.set_ylabel("seconds", color=INK, fontsize=8)
    return as_png(figure, PAD)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, facecolor="none")
    axes = figure.subplots()
    axes.tick_params(colors=INK, labelsize=8)
    axes.xaxis.get_offset_text().set(color=INK, fontsize=8)
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    return figure, axes
