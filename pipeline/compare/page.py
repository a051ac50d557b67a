"""A comparison as a self-contained HTML page and as a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from model.printable import markdown_line
from pipeline.compare import plots
from pipeline.compare.comparison import (
    Comparison,
    Contrast,
    GroupResult,
    MetricResult,
    most_different,
    worst,
)
from pipeline.compare.ratings import RatingResult
from stages.evaluate.listening.listening import HTML_LANGUAGES
from stages.metrics.bootstrap import Interval, format_difference, format_range
from stages.metrics.catalogue import BY_KEY, NARROW_SPACE, NOT_KNOWN, Metric, format_figure
from stages.reporting.markdown import table
from stages.reporting.pages import fill_page, inline_png

TEMPLATE = "page.html.j2"
RANKED_BY = ("cer", "mos")  # metrics that select the utterances of the page
TRADE_OFFS = (("cer", "mos"), ("mcd_db", "f0_rmse_cents"), ("cer", "real_time_factor"))


def title_of(comparison: Comparison) -> str:
    """Return the page's title."""
    first, *others = comparison.names
    return f"{', '.join(others)} against {first}"


def write_page(path: Path, comparison: Comparison, listening: str | None = None) -> None:
    """Write the comparison as one HTML file with inline images and a link to the listening page if there is one."""
    drawn = sorted(
        {contrast.difference.drawn for result in comparison.results for contrast in result.contrasts if contrast}
    )
    page = fill_page(
        Path(__file__).with_name(TEMPLATE),
        title=title_of(comparison),
        comparison=comparison,
        listening=listening,
        metrics=[_metric_row(result) for result in comparison.results],
        drawn=" or ".join(drawn) or "utterances",
        seeds=any(len(experiment.runs) > 1 for experiment in comparison.experiments),
        overview=_overview(comparison),
        ratings=[_rating(result) for result in comparison.ratings],
        groups=[_group(group) for group in comparison.groups],
        curves=_picture(
            plots.curves(comparison),
            "Training curves by step, on validation utterances where they were recorded.",
            "Line charts: training curves of every run by training step.",
        ),
        utterances=_utterance_tables(comparison),
        settings=_settings(comparison),
        revisions=[run.revision for run in comparison.runs],
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
        line = _metric_row(result)
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
    sentences = map(markdown_line, [*comparison.verdicts, *rating_lines(comparison), *warnings])
    return "\n\n".join([f"## {markdown_line(title_of(comparison))}", *sentences, table(header, lines)])


def rating_lines(comparison: Comparison) -> list[str]:
    """Return a line for every question that listeners answered."""
    lines = [_rating(result) for result in comparison.ratings]
    return [
        f"Listeners: {line['question']}: {line['value']} {line['range']}, "
        f"{line['n_ratings']} ratings of {line['n_raters']} raters."
        for line in lines
    ]


def _metric_row(result: MetricResult) -> dict[str, Any]:
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
    """Return a probability for display, between 1 % and 99 %: a finite number of resamples cannot show more."""
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
        "lines": [_metric_row(result) for result in group.results],
    }


def _rating(result: RatingResult) -> dict[str, Any]:
    unit = "score" if len(result.experiments) == 1 else "percent"
    question = (
        f"Opinion of {result.experiments[0]}, 1 to 5"
        if unit == "score"
        else f"{result.experiments[1]} preferred to {result.experiments[0]}"
    )
    return {
        "question": question,
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
            plots.differences(comparison),
            f"Every metric’s difference from {first} with its interval; better is to the right.",
            f"Chart of intervals: the table above in per cent of the figures of {first}. "
            f"{' '.join(comparison.verdicts)}",
        ),
        _picture(
            plots.trade_offs(comparison, TRADE_OFFS),
            "Trade-offs between two metrics, with intervals; small open markers are single seeds.",
            "Scatter plots of the experiments’ figures in the table above, one metric against another.",
        ),
    ]
    for number, name in enumerate(comparison.names[1:], start=1):
        pictures.append(
            _picture(
                plots.utterances(comparison, [*RANKED_BY, "mcd_db"], number),
                f"{name} against {first} by utterance.",
                f"Scatter plots: each utterance’s value in {name} against its value in {first}.",
            )
        )
    return [picture for picture in pictures if picture is not None]


def _utterance_tables(comparison: Comparison) -> list[dict[str, Any]]:
    first, *others = comparison.names
    tables = []
    for metric in (BY_KEY[key] for key in RANKED_BY):
        for name in comparison.names:
            tables.append((f"Worst of {name}: {metric.name}", metric, worst(comparison, metric, name)))
        for name in others:
            utterance_ids = most_different(comparison, metric, name)
            tables.append((f"Largest difference of {name} from {first}: {metric.name}", metric, utterance_ids))
    return [
        {"title": title, "lines": [_utterance(comparison, metric, each) for each in utterance_ids]}
        for title, metric, utterance_ids in tables
        if utterance_ids
    ]


def _utterance(comparison: Comparison, metric: Metric, utterance_id: str) -> dict[str, Any]:
    tables = [experiment.runs[0].utterances for experiment in comparison.experiments]
    values = comparison.utterances.loc[[(metric.key, utterance_id)]].to_numpy(float)
    return {
        "utterance_id": utterance_id,
        "speaker": tables[0].at[utterance_id, "speaker"],
        "text": tables[0].at[utterance_id, "text"],
        "lang": HTML_LANGUAGES.get(str(tables[0].at[utterance_id, "language"]), ""),
        "transcripts": [_transcript(table, utterance_id) for table in tables],
        "values": [format_figure(value, metric.unit) for value in values[0]],
    }


def _transcript(utterances: pd.DataFrame, utterance_id: str) -> str:
    if "transcript" not in utterances:
        return NOT_KNOWN
    return str(utterances["transcript"].fillna("").at[utterance_id]) or NOT_KNOWN


def _settings(comparison: Comparison) -> Sequence[dict[str, Any]]:
    unknown = not any(run.evaluators for run in comparison.runs)
    evaluators = "The evaluations do not name their evaluators." if unknown else "Identical in all."
    parameters = "None: params.yaml has the same values in all."
    return [
        {"anchor": "params", "title": "Parameters that differ", "lines": comparison.params, "otherwise": parameters},
        {
            "anchor": "evaluators",
            "title": "Evaluators that differ",
            "lines": comparison.evaluators,
            "otherwise": evaluators,
        },
    ]
