"""Plots of the corpus report: distributions of the measurements, and durations against texts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.corpus.quality import n_characters
from stages.reporting.pages import as_png

KEPT_COLOUR, REJECTED_COLOUR = "#4c78d0", "#d9534f"
INK = "#6f7683"  # readable on a white and on a dark page, because the plots are transparent
PAD = 0.4
DOTS_PER_INCH = 120
SIZE_INCHES = (4.6, 2.5)
N_BINS = 40


FloatArray = npt.NDArray[np.floating]


def histogram(kept: FloatArray, rejected: FloatArray, unit: str, limit: float | None = None) -> bytes:
    """Return a PNG of the numbers of utterances by value, stacked, with a dashed line at the limit."""
    figure, axes = _figure()
    values = np.concatenate([kept, rejected])
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(abs(low), 1e-9):  # a single value needs a range to be drawn
        low, high = low - max(0.05 * abs(low), 1e-3), high + max(0.05 * abs(high), 1e-3)
    axes.hist(
        [kept, rejected],
        bins=np.linspace(low, high, N_BINS + 1).tolist(),
        stacked=True,
        color=[KEPT_COLOUR, REJECTED_COLOUR],
    )
    if limit is not None and abs(limit - (low + high) / 2) < high - low:  # a distant limit would squeeze the histogram
        axes.axvline(limit, color=REJECTED_COLOUR, linestyle="--", linewidth=1.2)
    axes.set_xlabel(unit, color=INK, fontsize=8)
    axes.set_ylabel("utterances", color=INK, fontsize=8)
    return as_png(figure, PAD)


def durations_by_text(rows: pd.DataFrame) -> bytes:
    """Return a PNG of the seconds of every utterance against the characters of its text."""
    figure, axes = _figure()
    for rejected, colour in ((False, KEPT_COLOUR), (True, REJECTED_COLOUR)):
        drawn = rows[rows["rejected"] == rejected]
        axes.scatter(drawn["text"].map(n_characters), drawn["seconds"], s=5, color=colour, alpha=0.6, linewidths=0)
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
