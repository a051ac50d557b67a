"""The corpus report: one page that opens from disk without a network, before anything is trained."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.errors import PipelineError
from stages.common.files import atomic_path
from stages.common.manifests import OVER_LIMIT
from stages.corpus.quality import LIMITS, QualityParams, bandwidth_share
from stages.corpus.report_plots import Histogram, histogram, lengths_by_text
from stages.reporting.pages import fill_page, inline_png

TEMPLATE = "report.html.j2"
MARK = '<meta name="generator" content="voice factory: corpus report">'
N_EXAMPLES = 3
N_WORST = 5
MAX_TEXT_CHARACTERS = 140
NOT_KNOWN = "–"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class CorpusFacts:
    """What the page says besides the rows: `facts` are shown as they come, name → value."""

    facts: Mapping[str, str]
    quality: QualityParams
    max_reject_share: float


@dataclass(frozen=True)
class _Finding:
    """A column of the manifest for people; `worst` ranks its values, the worst highest."""

    key: str
    title: str
    unit: str
    digits: int
    meaning: str
    worst: Callable[[float], float]
    param: str = ""


_FINDINGS = (
    _Finding("seconds", "Duration", "seconds", 2, "Of the whole file, pauses included.", lambda value: value),
    _Finding(
        "loudness_lufs",
        "Loudness",
        "LUFS",
        1,
        "Gated, after ITU-R BS.1770. Speech that is broadcast has −23.",
        lambda value: -value,
        "min_loudness_lufs",
    ),
    _Finding(
        "noise_floor_dbfs",
        "Noise floor",
        "dBFS",
        1,
        "Level of the quietest twentieth. High without any pause, or in a noisy room.",
        lambda value: value,
        "max_noise_floor_dbfs",
    ),
    _Finding(
        "bandwidth_hz",
        "Bandwidth",
        "Hz",
        0,
        "Highest frequency with energy. Far below half the file’s rate: an upsampled file.",
        lambda value: -value,
        "min_bandwidth_hz",
    ),
    _Finding(
        "bandwidth_share",
        "Bandwidth, of half the file’s rate",
        "of half the rate",
        2,
        "1 is all that the file could hold.",
        lambda value: -value,
        "min_bandwidth_share",
    ),
    _Finding("peak_dbfs", "Peak", "dBFS", 1, "0 is full scale.", lambda value: value),
    _Finding(
        "clipped_share",
        "Clipping",
        "of the samples",
        5,
        "Share of the samples in flat tops.",
        lambda value: value,
        "max_clipped_share",
    ),
    _Finding(
        "dc_offset",
        "DC offset",
        "of full scale",
        4,
        "Mean of the samples; 0 where the equipment is sound.",
        abs,
        "max_dc_offset",
    ),
    _Finding(
        "speech_share",
        "Speech",
        "of the time",
        2,
        "Share of the time in which a voice is heard.",
        lambda value: -value,
        "min_speech_share",
    ),
    _Finding(
        "seconds_per_character",
        "Seconds per character",
        "seconds",
        3,
        "Letters, syllable signs and digits.",
        lambda value: value,
    ),
    _Finding(
        "duration_deviation",
        "Unusual length for the text",
        "standard deviations",
        1,
        "Against texts of like length by the same speaker: a wrong or cut-off text, or long pauses.",
        abs,
        "max_duration_deviation",
    ),
)
_MEDIANS = ("seconds", "loudness_lufs", "noise_floor_dbfs", "bandwidth_hz", "seconds_per_character")
_LIMIT_NAMES = {limit.reason: f"corpus.quality.{limit.param}" for limit in LIMITS} | {
    "duplicate_audio": "corpus.quality.duplicates",
    "unlikely_duration": "corpus.quality.max_duration_deviation",
    "too_short": "corpus.min_seconds",
    "too_long": "corpus.max_seconds",
    OVER_LIMIT: "corpus.max_utterances",
    "non_speech": "corpus.non_speech_pattern",
    "unknown_language": "corpus.languages",
}


def write_report(
    path: Path,
    kept: Sequence[Row],
    set_aside: Sequence[Row],
    rejects: Sequence[Mapping[str, str]],
    context: CorpusFacts,
) -> Path:
    """Write the page to `path`, or to index.html in it if it does not end in .html, and return where it is.

    Takes the manifest rows that are kept, those of measured rejects, and all rejects. Raises PipelineError rather than
    overwrite what is no such page.
    """
    target = path if path.suffix.lower() in (".html", ".htm") else path / "index.html"
    _check_target(target)
    kept, set_aside = [_with_derived(row) for row in kept], [_with_derived(row) for row in set_aside]
    wrong = [row for row in rejects if row["reason"] != OVER_LIMIT]
    page = fill_page(
        Path(__file__).with_name(TEMPLATE),
        mark=MARK,
        context=context,
        cards=_cards(kept, wrong),
        voices=_voices(kept),
        files=_files(kept),
        plots=_plots(kept, set_aside, context.quality),
        reasons=_reasons(rejects),
        worst=_worst(kept, set_aside),
        n_input=len(kept) + len(rejects),
        stops=not kept or len(wrong) > context.max_reject_share * (len(kept) + len(wrong)),
    )
    with atomic_path(target) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return target


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise PipelineError(f"{target}: is a folder; name a page, such as {target / 'corpus.html'}")
    if target.exists() and MARK not in target.read_bytes()[:2000].decode("utf-8", "replace"):
        raise PipelineError(f"{target}: exists and is no corpus report; it is left as it is, name another page")


def _with_derived(row: Row) -> dict[str, Any]:
    return {**row, "seconds": row["n_samples"] / row["sample_rate_hz"], "bandwidth_share": bandwidth_share(row)}


def _cards(kept: Sequence[Row], wrong: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    seconds = [row["seconds"] for row in kept]
    return [
        ("Utterances kept", f"{len(kept):,}"),
        ("Speech", f"{sum(seconds) / 60:.1f} min"),
        ("Rejected", f"{len(wrong):,}"),
        ("Speakers", f"{len({row['speaker'] for row in kept}):,}"),
        ("Languages", ", ".join(sorted({row["language"] for row in kept})) or NOT_KNOWN),
        ("Typical length", f"{np.median(seconds):.1f} s" if seconds else NOT_KNOWN),
    ]


def _groups(rows: Iterable[Row], *keys: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return sorted(groups.items())


def _voices(kept: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a line per speaker and language: counts, minutes, and the medians of some findings."""
    return [
        {
            "speaker": speaker,
            "language": language,
            "origin": _origin(rows),
            "count": len(rows),
            "minutes": _minutes(rows),
            "medians": [_median(rows, finding) for finding in _FINDINGS if finding.key in _MEDIANS],
        }
        for (speaker, language), rows in _groups(kept, "speaker", "language")
    ]


def _origin(rows: Sequence[Row]) -> str:
    kinds = {row["synthetic"] for row in rows}
    return "partly synthetic" if len(kinds) > 1 else "synthetic" if kinds == {True} else "person"


def _files(kept: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "container": container,
            "rate": f"{rate:,} Hz",
            "channels": channels,
            "count": len(rows),
            "minutes": _minutes(rows),
        }
        for (container, rate, channels), rows in _groups(kept, "container", "sample_rate_hz", "n_channels")
    ]


def _minutes(rows: Sequence[Row]) -> str:
    return f"{sum(row['seconds'] for row in rows) / 60:.1f}"


def _median(rows: Sequence[Row], finding: _Finding) -> str:
    values = _values(rows, finding)
    return _figure(float(np.median(values)) if values else None, finding)


def _values(rows: Iterable[Row], finding: _Finding) -> list[float]:
    return [row[finding.key] for row in rows if row[finding.key] is not None]


def _figure(value: float | None, finding: _Finding) -> str:
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    return f"{value:,.{finding.digits if value else 0}f}".replace("-", "\N{MINUS SIGN}")


def _plots(kept: Sequence[Row], set_aside: Sequence[Row], quality: QualityParams) -> list[dict[str, str]]:
    plots = []
    for finding in _FINDINGS:
        values = _values(kept, finding), _values(set_aside, finding)
        if not any(values):
            continue
        limit = getattr(quality, finding.param) if finding.param else None
        told = f" Limit: {finding.param} = {limit:g}.".replace("-", "\N{MINUS SIGN}") if limit is not None else ""
        shown = {_figure(value, finding) for value in chain(*values)}
        plot = {"title": finding.title, "meaning": finding.meaning + told}
        if len(shown) == 1:
            plots.append({**plot, "everywhere": f"{shown.pop()} {finding.unit}"})
        else:
            plots.append({**plot, "picture": inline_png(histogram(*values, Histogram(finding.unit, limit)))})
    if kept or set_aside:
        plots.append(
            {
                "title": "Duration and text",
                "meaning": "Points far from the band: the text is not what is said, or the pauses are long.",
                "picture": inline_png(lengths_by_text(kept, set_aside)),
            }
        )
    return plots


def _reasons(rejects: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the reasons with their numbers and some examples, the most frequent first."""
    groups: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in sorted(rejects, key=lambda row: row["utterance_id"]):
        groups[row["reason"]].append(row)
    return [
        {"reason": reason, "count": len(rows), "limit": _LIMIT_NAMES.get(reason, ""), "examples": rows[:N_EXAMPLES]}
        for reason, rows in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _worst(kept: Sequence[Row], set_aside: Sequence[Row]) -> list[dict[str, Any]]:
    """Return for every finding the utterances that are worst in it."""
    rejected = {row["utterance_id"] for row in set_aside}
    rows = [*kept, *set_aside]
    tables = []
    for finding in _FINDINGS:
        known = [row for row in rows if row[finding.key] is not None]
        ranked = sorted(known, key=lambda row, rank=finding.worst: (-rank(row[finding.key]), row["utterance_id"]))[
            :N_WORST
        ]  # type: ignore[misc]
        if ranked and len({row[finding.key] for row in known}) > 1:
            lines = [
                {
                    "value": _figure(row[finding.key], finding),
                    "path": row["audio_path"],
                    "seconds": f"{row['seconds']:.1f}",
                    "text": _excerpt(row["text"]),
                    "rejected": row["utterance_id"] in rejected,
                }
                for row in ranked
            ]
            tables.append({"title": finding.title, "unit": finding.unit, "lines": lines})
    return tables


def _excerpt(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARACTERS else f"{text[:MAX_TEXT_CHARACTERS].rstrip()} …"
