"""A comparison for people: a page that opens from disk on its own, and a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.compare import plots as compare_plots
from pipeline.compare.comparison import (
    Comparison,
    Contrast,
    GroupResult,
    MetricResult,
    UtterancePair,
    furthest_apart,
    worst,
)
from pipeline.compare.ratings import RatingResult
from stages.evaluate.listening.listening import HTML_LANGUAGES
from stages.metrics.bootstrap import Interval, format_difference, format_range
from stages.metrics.catalogue import BY_KEY, NARROW_SPACE, NOT_KNOWN, format_figure
from stages.reporting.markdown import table
from stages.reporting.pages import fill_page, inline_png

TEMPLATE = "page.html.j2"
LISTENED = ("cer", "mos")  # by which utterances are shown
TRADE_OFFS = (("cer", "mos"), ("mcd_db", "f0_rmse_cents"), ("cer", "real_time_factor"))


def title_of(comparison: Comparison) -> str:
    """Return the page's title."""
    first, *others = comparison.names
    return f"{', '.join(others)} against {first}"


def write_page(path: Path, comparison: Comparison, listening: str | None = None) -> None:
    """Write the comparison as one HTML file, pictures inside, with a link to the page to listen if there is one."""
    drawn = sorted(
        {contrast.difference.drawn for result in comparison.results for contrast in result.contrasts if contrast}
    )
    page = fill_page(
        Path(__file__).with_name(TEMPLATE),
        title=title_of(comparison),
        comparison=comparison,
        listening=listening,
        metrics=[_line(result) for result in comparison.results],
        drawn=" or ".join(drawn) or "utterances",
        seeds=any(len(experiment.runs) > 1 for experiment in comparison.experiments),
        overview=_overview(comparison),
        ratings=[_rating(result) for result in comparison.ratings],
        groups=[_group(group) for group in comparison.groups],
        curves=_picture(
            compare_plots.curves(comparison),
            "Curves of training against the step, on the validation utterances where they are kept.",
            "Line charts: training curves of every run against the training step.",
        ),
        utterances=_utterance_tables(comparison),
        settings=_settings(comparison),
        revisions=[run.revision for experiment in comparison.experiments for run in experiment.runs],
    )
    path.write_text(page, encoding="utf-8")


def markdown_table(comparison: Comparison) -> str:
    """Return verdicts, warnings and the table of metrics as Markdown, for a Prefect artifact."""
    first, *others = comparison.names
    header = ["metric", first]
    for name in others:
        header += [name, f"{name} minus {first} (95 % interval)", "probability of being better", "verdict"]
    lines = []
    for result in comparison.results:
        line = _line(result)
        cells = [line["name"], line["cells"][0]["value"]]
        for cell, contrast in zip(line["cells"][1:], line["contrasts"], strict=True):
            cells += [
                cell["value"],
                f"{contrast['value']} {contrast['range']}".strip(),
                contrast["probability"],
                contrast["kind"],
            ]
        lines.append(cells)
    warnings = [f"**{warning}**" for warning in comparison.warnings]
    return "\n\n".join(
        [f"## {title_of(comparison)}", *comparison.verdicts, *rating_lines(comparison), *warnings, table(header, lines)]
    )


def rating_lines(comparison: Comparison) -> list[str]:
    """Return a line for everything that listeners were asked."""
    lines = [_rating(result) for result in comparison.ratings]
    return [
        f"Listeners: {line['asked']}: {line['value']} {line['range']}, {line['n_ratings']} ratings of {line['n_raters']} raters."
        for line in lines
    ]


def _line(result: MetricResult) -> dict[str, Any]:
    unit = result.metric.unit
    cells = []
    for interval, seeds in zip(result.intervals, result.seeds, strict=True):
        band = f"seeds {format_range(min(seeds), max(seeds), unit, sign=False)}" if len(seeds) > 1 else ""
        cells.append(
            {
                "value": format_figure(interval.value if interval else None, unit),
                "range": _range(interval, unit),
                "seeds": band,
            }
        )
    contrasts = [_contrast(contrast, unit) for contrast in result.contrasts]
    return {
        "name": result.metric.name,
        "meaning": f"{result.metric.meaning} {result.metric.direction}",
        "cells": cells,
        "recording": format_figure(result.recording, unit),
        "contrasts": contrasts,
    }


def _range(interval: Interval | None, unit: str) -> str:
    return f"({format_range(interval.low, interval.high, unit, sign=False)})" if interval else ""


def _contrast(contrast: Contrast | None, unit: str) -> dict[str, str]:
    if contrast is None:
        return {
            "value": NOT_KNOWN,
            "range": "",
            "probability": NOT_KNOWN,
            "kind": "",
            "sentence": "Not measured in both.",
        }
    difference = contrast.difference
    return {
        "value": format_difference(difference.difference, unit),
        "probability": _probability(difference.probability_better),
        "range": f"({format_range(difference.low, difference.high, unit)})",
        "kind": str(contrast.outcome),
        "sentence": contrast.sentence,
    }


def _probability(share: float) -> str:
    """Return a probability as people read it; resamples never make it certain."""
    if math.isnan(share):
        return NOT_KNOWN
    bounded = min(max(share, 0.01), 0.99)
    sign = "" if bounded == share else "under " if share < bounded else "over "
    return f"{sign}{100 * bounded:.0f}{NARROW_SPACE}%"


def _group(group: GroupResult) -> dict[str, Any]:
    return {
        "kind": group.kind,
        "name": group.name,
        "n_utterances": group.n_utterances,
        "lines": [_line(result) for result in group.results],
    }


def _rating(result: RatingResult) -> dict[str, Any]:
    unit = "score" if len(result.experiments) == 1 else "percent"
    asked = (
        f"Opinion of {result.experiments[0]}, 1 to 5"
        if unit == "score"
        else f"{result.experiments[1]} preferred to {result.experiments[0]}"
    )
    return {
        "asked": asked,
        "value": format_figure(result.interval.value, unit),
        "range": _range(result.interval, unit),
        "n_ratings": result.n_ratings,
        "n_raters": result.n_raters,
        "n_utterances": result.interval.n_utterances,
    }


def _picture(picture: bytes | None, caption: str, alt: str) -> dict[str, str] | None:
    if picture is None:
        return None
    return {"source": inline_png(picture), "caption": caption, "alt": alt}


def _overview(comparison: Comparison) -> list[dict[str, str]]:
    first = comparison.names[0]
    pictures = [
        _picture(
            compare_plots.differences(comparison),
            f"Every metric’s difference from {first} with its interval; better is to the right.",
            f"Chart of intervals, the table above in per cent of the figures of {first}. {' '.join(comparison.verdicts)}",
        ),
        _picture(
            compare_plots.trade_offs(comparison, TRADE_OFFS),
            "Trade-offs: one metric against another, with intervals; small open marks are single seeds.",
            "Scatter charts of the experiments’ figures in the table above, one metric against another.",
        ),
    ]
    for number, name in enumerate(comparison.names[1:], start=1):
        pictures.append(
            _picture(
                compare_plots.utterances(comparison, [*LISTENED, "mcd_db"], number),
                f"Every utterance: {name} against {first}.",
                f"Scatter charts: each utterance’s value in {name} against its value in {first}.",
            )
        )
    return [picture for picture in pictures if picture is not None]


def _utterance_tables(comparison: Comparison) -> list[dict[str, Any]]:
    tables = []
    heard = [
        {row["utterance_id"]: row.get("transcript") or NOT_KNOWN for row in experiment.runs[0].rows}
        for experiment in comparison.experiments
    ]
    for key in LISTENED:
        name = BY_KEY[key].name
        for number, experiment in enumerate(comparison.names):
            tables.append((f"Worst of {experiment}: {name}", worst(comparison, key, number)))
        for number, experiment in enumerate(comparison.names[1:], start=1):
            tables.append(
                (
                    f"Furthest apart, {experiment} and {comparison.names[0]}: {name}",
                    furthest_apart(comparison, key, number),
                )
            )
    return [{"title": title, "lines": [_utterance(pair, heard) for pair in pairs]} for title, pairs in tables if pairs]


def _utterance(pair: UtterancePair, heard: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return the line of an utterance; `heard` are each experiment's transcripts by utterance."""
    return {
        "row": pair.row,
        "lang": HTML_LANGUAGES.get(pair.row["language"], ""),
        "heard": [by_id[pair.row["utterance_id"]] for by_id in heard],
        "cells": [format_figure(value, pair.metric.unit) for value in pair.values],
    }


def _settings(comparison: Comparison) -> Sequence[dict[str, Any]]:
    unknown = not any(run.evaluators for experiment in comparison.experiments for run in experiment.runs)
    evaluators = "The evaluations do not name their evaluators." if unknown else "The same in all."
    parameters = "None: params.yaml holds the same values in all."
    return [
        {"anchor": "params", "title": "Parameters that differ", "lines": comparison.params, "otherwise": parameters},
        {
            "anchor": "evaluators",
            "title": "Evaluators that differ",
            "lines": comparison.evaluators,
            "otherwise": evaluators,
        },
    ]
