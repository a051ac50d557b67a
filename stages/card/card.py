"""Content of a voice card: origin, metrics, limits and lineage, and its templates."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from stages.common.files import content_key
from stages.metrics.bootstrap import Interval, confidence_interval
from stages.metrics.catalogue import METRICS, NOT_KNOWN, Metric, format_figure
from stages.reporting.nested import flat

SUBSETS = ("train", "validation", "test")

LANGUAGE_NAMES = {"EN": "English", "ZH": "Mandarin", "JP": "Japanese"}

LICENCE_FILE = re.compile(r"(copyright|copying|licen[cs]e|attribution)\b", re.IGNORECASE)

ENOUGH_MINUTES, ENOUGH_UTTERANCES = 60, 100  # below: said among the limits


@dataclass(frozen=True)
class Share:
    """Some of the recordings: utterances and minutes."""

    utterances: int
    minutes: float

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], rate_hz: int) -> Share:
        """Count rows of the split manifest."""
        return cls(len(rows), sum(row["n_samples"] for row in rows) / rate_hz / 60)


@dataclass(frozen=True)
class Measured:
    """A metric of the voice, and of the recordings themselves where they have it."""

    metric: Metric
    voice: Interval
    recordings: Interval | None

    def shown(self, interval: Interval | None) -> str:
        """Return a figure with its interval as people read it."""
        if interval is None or not math.isfinite(interval.value):
            return NOT_KNOWN
        low, high = (format_figure(each, self.metric.unit) for each in (interval.low, interval.high))
        return f"{format_figure(interval.value, self.metric.unit)} ({low} to {high})"


def measure(rows: Sequence[Mapping[str, Any]]) -> list[Measured]:
    """Return every metric of the catalogue that rows of utterances.parquet have a value of."""
    measured = []
    for metric in METRICS:
        if metric.is_measured(rows):
            own = metric.of_recordings
            recordings = confidence_interval([rows], own) if own and own.key in rows[0] else None
            measured.append(Measured(metric, confidence_interval([rows], metric), recordings))
    return measured


def limits(
    train: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any], measured: Sequence[Measured], n_tested: int
) -> Iterator[str]:
    """Yield what is known to be weak or unknown, one sentence each, from facts alone."""
    rate_hz = metadata["spectrogram"]["sample_rate_hz"]
    spoken = {row["language"] for row in train}
    foreign = [name_of(code) for code in metadata["symbols"]["languages"] if code not in spoken]
    yield f"It learnt {join(name_of(code) for code in sorted(spoken))}" + (
        f", and never heard {join(foreign, 'or')}." if foreign else "."
    )
    for speaker in metadata["speakers"]:
        minutes = Share.of([row for row in train if row["speaker"] == speaker], rate_hz).minutes
        if minutes < ENOUGH_MINUTES:
            yield f"{speaker} was learnt from {minutes:.1f} minutes of speech; an hour and more of one voice is usual."
    if synthetic := sum(row["n_samples"] for row in train if row["synthetic"]):
        share = synthetic / sum(row["n_samples"] for row in train)
        yield f"{share:.0%} of the speech that it learnt from was spoken by machines, whose habits it has taken over."
    for one in measured:
        if one.metric.key == "cer" and one.recordings is not None and one.voice.value > one.recordings.value:
            shown, own = (format_figure(interval.value, "percent") for interval in (one.voice, one.recordings))
            yield f"A speech recogniser misheard {shown} of its characters, and {own} of the recordings'."
    if n_tested < ENOUGH_UTTERANCES:
        yield f"It was measured on {n_tested} utterances: the intervals above are wide, and rare faults may not have shown."
    yield "The test utterances come from the same recordings as the training: other texts, styles and speakers were not measured."
    yield f"It holds no sound above {rate_hz / 2000:g} kHz."


def name_of(language: str) -> str:
    """Return a language's name, or its code where we have no name for it."""
    return LANGUAGE_NAMES.get(language, language)


def join(items: Iterable[str], word: str = "and") -> str:
    """Return a list in words; there is at least one item."""
    *first, last = items
    return f"{', '.join(first)} {word} {last}" if first else last


def licence_files(recordings: Path) -> list[Path]:
    """Return the files beside the recordings that say whose they are."""
    return sorted(path for path in recordings.glob("*") if path.is_file() and LICENCE_FILE.match(path.name))


def made_of(rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the card says of the recordings: minutes by subset and by speaker, languages, the share of synthetic
    speech.
    """
    rate_hz = metadata["spectrogram"]["sample_rate_hz"]
    train = [row for row in rows if row["subset"] == "train"]
    speakers = []
    for speaker in metadata["speakers"]:
        own = [row for row in train if row["speaker"] == speaker]
        synthetic = sum(row["synthetic"] for row in own)
        languages = ", ".join(name_of(code) for code in sorted({row["language"] for row in own}))
        speakers.append(
            {
                "name": speaker,
                "languages": languages,
                "share": Share.of(own, rate_hz),
                "kind": "a person"
                if not synthetic
                else "a machine"
                if synthetic == len(own)
                else "a person and a machine",
            }
        )
    return {
        "subsets": {subset: Share.of([row for row in rows if row["subset"] == subset], rate_hz) for subset in SUBSETS},
        "speakers": speakers,
        "languages": join([name_of(code) for code in sorted({row["language"] for row in train})]),
        "synthetic_share": Share.of([row for row in train if row["synthetic"]], rate_hz).minutes
        / Share.of(train, rate_hz).minutes,
    }


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Return nested values as text under dotted names, in their order."""
    return {name: str(value) for name, value in sorted(flat(values).items())}


def lineage_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return where a voice comes from: hashes of data, code and parameters, and of the voice that training began with."""
    lineage = dict(metadata["lineage"])
    params = lineage.pop("params", {})
    parent = (params.get("base_voice") or {}).get("sha256")
    return as_text({**lineage, "params": content_key(params), "parent voice": parent or "none: trained from nothing"})


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template that lies beside this module."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return templates.get_template(template).render(values)
