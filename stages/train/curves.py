"""Training curves as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stages.train.settings import SPOKEN_METRICS

COLUMNS = 3


def write_curves(path: Path, log: Sequence[dict[str, float]]) -> None:
    """Draw every logged value over the steps: training and validation of a name in one plot, metrics before losses.

    Losses are unweighted. Those of training are measured on segments with the current weights; those of validation, and
    the metrics of spoken utterances, on whole utterances with the EMA weights.
    """
    logged = {name.partition("/")[2] for row in log for name in row if "/" in name}
    metrics = [name for name in SPOKEN_METRICS if name in logged]
    names = [*metrics, *sorted(logged.difference(metrics))]
    if not names:
        return
    n_rows = math.ceil(len(names) / COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 2.8 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    for position, name in enumerate(names, start=1):
        axis = figure.add_subplot(n_rows, COLUMNS, position)
        for subset, style in (("train", "-"), ("validation", "o-")):
            points = [(row["step"], row[f"{subset}/{name}"]) for row in log if f"{subset}/{name}" in row]
            if points:
                axis.plot(*zip(*points, strict=True), style, markersize=3, linewidth=1.2, label=subset)
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=100, metadata={"Software": None})
