"""Plots of a comparison as PNG: differences, training curves, trade-offs between metrics, values by utterance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.compare.comparison import Comparison, MetricResult
from stages.metrics.catalogue import BY_KEY, Metric
from stages.reporting.pages import as_png

INK, GROUND = "#1b2029", "#ffffff"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # colour-blind safe (Okabe and Ito 2008)
MARKERS, LINES = "osD^vP", ("-", "--", "-.", ":")
PAD = 0.6
DOTS_PER_INCH = 130


def differences(comparison: Comparison) -> bytes:
    """Plot every metric's difference from the first experiment, in per cent of the first's figure; right is better."""
    shown = [
        result
        for result in comparison.results
        if any(result.contrasts) and result.intervals[0] and result.intervals[0].value
    ]
    figure, (axes,) = _figure(1, width=8.0, height=0.9 + 0.34 * len(shown))
    n_others = len(comparison.experiments) - 1
    for number, name in enumerate(comparison.names[1:]):
        for place, result in enumerate(shown):
            contrast = result.contrasts[number]
            if contrast is None or result.intervals[0] is None or not math.isfinite(contrast.difference.low):
                continue
            scale = (1 if result.metric.higher_is_better else -1) / abs(result.intervals[0].value)
            difference = contrast.difference
            middle, *ends = (scale * value for value in (difference.difference, difference.low, difference.high))
            height = place + 0.5 * ((number + 0.5) / n_others - 0.5)
            axes.plot(ends, [height, height], color=COLOURS[(number + 1) % len(COLOURS)], linewidth=2)
            axes.plot(
                middle,
                height,
                MARKERS[(number + 1) % len(MARKERS)],
                color=COLOURS[(number + 1) % len(COLOURS)],
                label=name if place == 0 else None,
                markersize=6,
            )
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(shown)), [result.metric.name for result in shown])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(f"← worse than {comparison.names[0]}        better, in % of its figure →", color=INK, fontsize=9)
    _legend(axes)
    return as_png(figure, PAD)


def curves(comparison: Comparison) -> bytes | None:
    """Plot all runs' validation curves by training step, or training curves without them; None without any."""
    runs = [(number, run) for number, experiment in enumerate(comparison.experiments) for run in experiment.runs]
    available = {name for _, run in runs for name in run.curves}
    names = sorted({name for name in available if name.startswith("validation/")} or available)
    if not names:
        return None
    figure, all_axes = _figure(len(names), width=4.0, height=2.7)
    for name, axes in zip(names, all_axes, strict=True):
        for number, run in runs:
            values = run.curves.get(name)
            axes.plot(
                [] if values is None else values.index,
                [] if values is None else values,
                LINES[number % len(LINES)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=3,
                linewidth=1.3,
                color=COLOURS[number % len(COLOURS)],
                label=comparison.names[number] if run is comparison.experiments[number].runs[0] else None,
            )
        axes.set_title(name, fontsize=9, color=INK)
        axes.set_xlabel("step", fontsize=8, color=INK)
    _legend(all_axes[0])
    return as_png(figure, PAD)


def trade_offs(comparison: Comparison, pairs: Sequence[tuple[str, str]]) -> bytes | None:
    """Plot one metric against another with intervals, a point per experiment; None if no pair was measured."""
    by_key = {result.metric.key: result for result in comparison.results}
    shown = [(by_key[x], by_key[y]) for x, y in pairs if x in by_key and y in by_key]
    if not shown:
        return None
    figure, all_axes = _figure(len(shown), width=4.4, height=3.2)
    for (across, up), axes in zip(shown, all_axes, strict=True):
        for number, name in enumerate(comparison.names):
            _point(axes, across, up, number, name)
        vertical = "upper" if up.metric.higher_is_better else "lower"
        horizontal = "right" if across.metric.higher_is_better else "left"
        _label(axes, across.metric, up.metric)
        axes.set_title(f"better: {vertical} {horizontal}", fontsize=9, color=INK)
    _legend(all_axes[0])
    return as_png(figure, PAD)


def _point(axes: Axes, across: MetricResult, up: MetricResult, number: int, name: str) -> None:
    x, y = across.intervals[number], up.intervals[number]
    if x is None or y is None:
        return
    bars = [
        [[max(0.0, side.value - side.low)], [max(0.0, side.high - side.value)]] if math.isfinite(side.low) else None
        for side in (x, y)
    ]
    colour = COLOURS[number % len(COLOURS)]
    axes.errorbar(
        [x.value],
        [y.value],
        xerr=bars[0],
        yerr=bars[1],
        fmt=MARKERS[number % len(MARKERS)],
        color=colour,
        capsize=3,
        label=name,
    )
    for x_seed, y_seed in zip(across.seeds[number], up.seeds[number], strict=True):
        if len(across.seeds[number]) > 1:
            axes.plot(
                x_seed, y_seed, MARKERS[number % len(MARKERS)], markersize=4, markerfacecolor="none", color=colour
            )


def utterances(comparison: Comparison, keys: Sequence[str], number: int) -> bytes | None:
    """Plot every utterance's value in an experiment against the first one's, by metric; None if none was measured."""
    first, other = comparison.names[0], comparison.names[number]
    measured = comparison.utterances[[first, other]].dropna()
    shown = [key for key in keys if key in measured.index]
    if not shown:
        return None
    figure, all_axes = _figure(len(shown), width=3.6, height=3.3)
    for key, axes in zip(shown, all_axes, strict=True):
        metric, values = BY_KEY[key], measured.loc[key]
        axes.scatter(
            values[first],
            values[other],
            s=18,
            alpha=0.65,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linewidths=0,
        )
        points = values.to_numpy()
        ends = [points.min(), points.max()]
        axes.plot(ends, ends, color=INK, linewidth=1, linestyle=":")
        _label(axes, metric, metric)
        axes.set_xlabel(first, fontsize=8, color=INK)
        axes.set_ylabel(other, fontsize=8, color=INK)
        side = "above" if metric.higher_is_better else "below"
        axes.set_title(f"{metric.name}\nbetter {side} the line", fontsize=9, color=INK)
    return as_png(figure, PAD)


def _label(axes: Axes, across: Metric, up: Metric) -> None:
    for axis, metric in ((axes.xaxis, across), (axes.yaxis, up)):
        unit = "" if metric.unit in ("percent", "score") else f", {metric.unit}"
        axis.set_label_text(f"{metric.name}{unit}", fontsize=8, color=INK)
        if metric.unit == "percent":
            axis.set_major_formatter(PercentFormatter(1.0, decimals=None))


def _figure(n_axes: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(n_axes, 3)
    n_rows = math.ceil(n_axes / columns)
    figure = Figure(figsize=(width * columns, height * n_rows), dpi=DOTS_PER_INCH, facecolor=GROUND)
    grid = figure.subplots(n_rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[n_axes:]:
        axes.remove()
    for axes in grid[:n_axes]:
        axes.tick_params(colors=INK, labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.grid(color="#e3e6eb", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, grid[:n_axes]


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, framealpha=0.9)
