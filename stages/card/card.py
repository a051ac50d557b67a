"""Content of a voice card: origin, metrics, limits and lineage, and its templates."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markdown_it import MarkdownIt

from model.printable import markdown_cell, markdown_line
from stages.common.files import content_key
from stages.metrics.bootstrap import Interval, confidence_interval
from stages.metrics.catalogue import METRICS, NOT_KNOWN, Metric, ScoreRow, format_figure
from stages.reporting.nested import flat

SUBSETS = ("train", "validation", "test")

LANGUAGE_NAMES = {"EN": "English", "ZH": "Mandarin", "JP": "Japanese"}

LICENCE_FILE = re.compile(r"(copyright|copying|licen[cs]e|attribution)\b", re.IGNORECASE)

ENOUGH_MINUTES, ENOUGH_UTTERANCES = 60, 100  # fewer are listed among the limits


@dataclass(frozen=True)
class Speech:
    """Amount of recorded speech."""

    utterances: int
    minutes: float

    @classmethod
    def of(cls, rows: pd.DataFrame, rate_hz: int) -> Speech:
        """Return the amount in rows of the split manifest."""
        return cls(len(rows), int(rows["n_samples"].sum()) / rate_hz / 60)


@dataclass(frozen=True)
class MeasuredMetric:
    """A metric of the voice, and of the recordings themselves if it is measured for them."""

    metric: Metric
    voice: Interval
    recordings: Interval | None

    def shown(self, interval: Interval | None) -> str:
        """Return a figure with its interval for display."""
        if interval is None or not math.isfinite(interval.value):
            return NOT_KNOWN
        low, high = (format_figure(each, self.metric.unit) for each in (interval.low, interval.high))
        return f"{format_figure(interval.value, self.metric.unit)} ({low} to {high})"


def measure(rows: Sequence[ScoreRow]) -> list[MeasuredMetric]:
    """Return every metric of the catalogue for which rows of utterances.parquet have a value."""
    measured = []
    for metric in METRICS:
        if metric.is_measured(rows):
            own = metric.of_recordings
            recordings = confidence_interval([rows], own) if own and own.key in rows[0] else None
            measured.append(MeasuredMetric(metric, confidence_interval([rows], metric), recordings))
    return measured


def limits(
    train: pd.DataFrame, metadata: Mapping[str, Any], measured: Sequence[MeasuredMetric], n_tested: int
) -> Iterator[str]:
    """Yield known weaknesses and unknowns, one sentence each, derived from facts only."""
    rate_hz = metadata["spectrogram"]["sample_rate_hz"]
    trained = sorted(train["language"].unique())
    untrained = [language_name(code) for code in metadata["symbols"]["languages"] if code not in trained]
    yield f"It was trained on {join(map(language_name, trained))}" + (
        f", and never on {join(untrained, 'or')}." if untrained else "."
    )
    for speaker in metadata["speakers"]:
        minutes = Speech.of(train[train["speaker"] == speaker], rate_hz).minutes
        if minutes < ENOUGH_MINUTES:
            yield f"{speaker} has {minutes:.1f} minutes of training speech; an hour or more per voice is usual."
    if synthetic := train.loc[train["synthetic"], "n_samples"].sum():
        share = synthetic / train["n_samples"].sum()
        yield f"{share:.0%} of the training speech was synthetic, and the voice reproduces its artefacts."
    for each in measured:
        if each.metric.key == "cer" and each.recordings is not None and each.voice.value > each.recordings.value:
            voice, recordings = (format_figure(interval.value, "percent") for interval in (each.voice, each.recordings))
            yield f"A speech recogniser got {voice} of its characters wrong, and {recordings} of the recordings'."
    if n_tested < ENOUGH_UTTERANCES:
        yield (
            f"It was measured on {n_tested} utterances: the intervals above are wide, and rare errors may not have "
            "occurred."
        )
    yield (
        "The test utterances come from the same recordings as the training: other texts, styles and speakers were not "
        "measured."
    )
    yield f"It contains no sound above {rate_hz / 2000:g} kHz."


def language_name(language: str) -> str:
    """Return a language's name, or its code if it has no name here."""
    return LANGUAGE_NAMES.get(language, language)


def join(items: Iterable[str], word: str = "and") -> str:
    """Return at least one item as a list in words."""
    *first, last = items
    return f"{', '.join(first)} {word} {last}" if first else last


def licence_files(recordings: Path) -> list[Path]:
    """Return the licence files beside the recordings."""
    return sorted(path for path in recordings.glob("*") if path.is_file() and LICENCE_FILE.match(path.name))


def recordings_facts(rows: pd.DataFrame, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card's facts about the recordings: amounts by subset and speaker, languages, synthetic share."""
    rate_hz = metadata["spectrogram"]["sample_rate_hz"]
    train = rows[rows["subset"] == "train"]
    speakers = []
    for speaker in metadata["speakers"]:
        group = train[train["speaker"] == speaker]
        synthetic = group["synthetic"]
        speakers.append(
            {
                "name": speaker,
                "languages": ", ".join(map(language_name, sorted(group["language"].unique()))),
                "speech": Speech.of(group, rate_hz),
                "kind": "a person and a machine"
                if synthetic.nunique() > 1
                else "a machine"
                if synthetic.any()
                else "a person",
            }
        )
    return {
        "subsets": {subset: Speech.of(rows[rows["subset"] == subset], rate_hz) for subset in SUBSETS},
        "speakers": speakers,
        "languages": join(map(language_name, sorted(train["language"].unique()))),
        "synthetic_share": train.loc[train["synthetic"], "n_samples"].sum() / train["n_samples"].sum(),
    }


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Return nested values as text under dotted names, in their order."""
    return {name: str(value) for name, value in sorted(flat(values).items())}


def lineage_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return a voice's lineage: hashes of data, code, parameters and base voice."""
    lineage = dict(metadata["lineage"])
    params = lineage.pop("params", {})
    parent = (params.get("base_voice") or {}).get("sha256")
    return as_text({**lineage, "params": content_key(params), "parent voice": parent or "none: trained from scratch"})


def render_markdown(values: Mapping[str, Any]) -> str:
    """Return the card with every value escaped."""
    templates = _templates(finalize=lambda value: markdown_line(value) if isinstance(value, str) else value)
    templates.filters |= {"cell": markdown_cell, "quoted": lambda text: json.dumps(text, ensure_ascii=False)}
    return templates.get_template("card.md.j2").render(values)


def render_page(title: str, markdown: str) -> str:
    """Return the card as a page that loads nothing."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(markdown)
    return _templates().get_template("card.html.j2").render(title=title, body=body)


def _templates(**options: Any) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        **options,
    )
