"""The corpus report: one page that opens from disk without a network, written before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.common.errors import PipelineError
from stages.common.files import atomic_path
from stages.common.manifests import OVER_LIMIT
from stages.corpus.quality import LIMITS, QualityParams
from stages.corpus.report_columns import COLUMNS, NOT_KNOWN
from stages.corpus.report_plots import durations_by_text, histogram
from stages.reporting.pages import fill_page, inline_png

TEMPLATE = "report.html.j2"
MARK = '<meta name="generator" content="voice factory: corpus report">'
N_EXAMPLES = 3
N_WORST = 5
MAX_TEXT_CHARACTERS = 140
_PARAM_OF_REASON = {limit.reason: f"corpus.quality.{limit.param}" for limit in LIMITS} | {
    "duplicate_audio": "corpus.quality.duplicates",
    "unlikely_duration": "corpus.quality.max_duration_deviation",
    "too_short": "corpus.min_seconds",
    "too_long": "corpus.max_seconds",
    OVER_LIMIT: "corpus.max_utterances",
    "non_speech": "corpus.non_speech_pattern",
    "unknown_language": "corpus.languages",
}


@dataclass(frozen=True)
class ReportContext:
    """Content of the page besides the rows; `facts` (name → value) are shown unchanged."""

    facts: Mapping[str, str]
    quality: QualityParams
    max_reject_share: float


def write_report(path: Path, measured: pd.DataFrame, rejects: pd.DataFrame, context: ReportContext) -> Path:
    """Write the page to `path`, or to `path`/index.html unless it ends in .html, and return the file's path.

    `measured` has the columns of the corpus manifest and includes measured rejects; `rejects` has those of
    rejects.parquet. Raises PipelineError rather than overwrite a file that is not a corpus report.
    """
    target = path if path.suffix.lower() in (".html", ".htm") else path / "index.html"
    _check_target(target)
    rows = _with_derived(measured, rejects)
    kept = rows[~rows["rejected"]]
    wrong = rejects[rejects["reason"] != OVER_LIMIT]
    page = fill_page(
        Path(__file__).with_name(TEMPLATE),
        mark=MARK,
        context=context,
        cards=_cards(kept, len(wrong)),
        voices=_voices(kept),
        files=_files(kept),
        plots=_plots(rows, context.quality),
        reasons=_reasons(rejects),
        worst=_worst(rows),
        n_input=len(kept) + len(rejects),
        stops=kept.empty or len(wrong) > context.max_reject_share * (len(kept) + len(wrong)),
    )
    with atomic_path(target) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return target


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise PipelineError(f"{target}: is a folder; name a page, e.g. {target / 'corpus.html'}")
    if target.exists() and MARK not in target.read_bytes()[:2000].decode("utf-8", "replace"):
        raise PipelineError(f"{target}: exists and is not a corpus report; name another page")


def _with_derived(measured: pd.DataFrame, rejects: pd.DataFrame) -> pd.DataFrame:
    return measured.assign(
        seconds=measured["n_samples"] / measured["sample_rate_hz"],
        bandwidth_share=measured["bandwidth_hz"] / (measured["sample_rate_hz"] / 2),
        rejected=measured["utterance_id"].isin(rejects["utterance_id"]),
    )


def _cards(kept: pd.DataFrame, n_rejected: int) -> list[tuple[str, str]]:
    return [
        ("Utterances kept", f"{len(kept):,}"),
        ("Speech", f"{_minutes(kept)} min"),
        ("Rejected", f"{n_rejected:,}"),
        ("Speakers", f"{kept['speaker'].nunique():,}"),
        ("Languages", ", ".join(sorted(kept["language"].unique())) or NOT_KNOWN),
        ("Median duration", NOT_KNOWN if kept.empty else f"{kept['seconds'].median():.1f} s"),
    ]


def _voices(kept: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a line per speaker and language: counts, minutes and medians."""
    return [
        {
            "speaker": speaker,
            "language": language,
            "origin": _origin(rows["synthetic"]),
            "count": len(rows),
            "minutes": _minutes(rows),
            "medians": [column.format(rows[column.key].median()) for column in COLUMNS if column.in_summary],
        }
        for (speaker, language), rows in kept.groupby(["speaker", "language"])
    ]


def _origin(synthetic: pd.Series[bool]) -> str:
    return "synthetic" if synthetic.all() else "partly synthetic" if synthetic.any() else "person"


def _files(kept: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "container": container,
            "rate": f"{rate:,} Hz",
            "channels": channels,
            "count": len(rows),
            "minutes": _minutes(rows),
        }
        for (container, rate, channels), rows in kept.groupby(["container", "sample_rate_hz", "n_channels"])
    ]


def _minutes(rows: pd.DataFrame) -> str:
    return f"{rows['seconds'].sum() / 60:.1f}"


def _plots(rows: pd.DataFrame, quality: QualityParams) -> list[dict[str, str]]:
    plots = []
    for column in COLUMNS:
        values = rows[column.key].dropna()
        if values.empty:
            continue
        limit = getattr(quality, column.param) if column.param else None
        note = f" Limit: {column.param} = {limit:g}.".replace("-", "\N{MINUS SIGN}") if limit is not None else ""
        plot = {"title": column.title, "meaning": column.meaning + note}
        shown = {column.format(value) for value in values}
        if len(shown) == 1:
            plots.append({**plot, "everywhere": f"{shown.pop()} {column.unit}"})
        else:
            rejected = rows["rejected"][values.index]
            picture = histogram(values[~rejected].to_numpy(), values[rejected].to_numpy(), column.unit, limit)
            plots.append({**plot, "picture": inline_png(picture)})
    if not rows.empty:
        plots.append(
            {
                "title": "Duration and text",
                "meaning": "Points far from the band: the text is not what is spoken, or the pauses are long.",
                "picture": inline_png(durations_by_text(rows)),
            }
        )
    return plots


def _reasons(rejects: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the reasons with their counts and some examples, the most frequent first."""
    groups = sorted(rejects.groupby("reason"), key=lambda group: (-len(group[1]), group[0]))
    return [
        {
            "reason": reason,
            "count": len(rows),
            "limit": _PARAM_OF_REASON.get(str(reason), ""),
            "examples": rows.head(N_EXAMPLES).to_dict("records"),
        }
        for reason, rows in groups
    ]


def _worst(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the most suspicious utterances of every column."""
    tables = []
    for column in COLUMNS:
        if rows[column.key].nunique() < 2:
            continue
        ranked = rows.assign(rank=column.rank(rows[column.key])).dropna(subset="rank")
        ranked = ranked.sort_values(["rank", "utterance_id"], ascending=[False, True]).head(N_WORST)
        lines = [
            {
                "value": column.format(row[column.key]),
                "path": row["audio_path"],
                "seconds": f"{row['seconds']:.1f}",
                "text": _excerpt(row["text"]),
                "rejected": row["rejected"],
            }
            for row in ranked.to_dict("records")
        ]
        tables.append({"title": column.title, "unit": column.unit, "lines": lines})
    return tables


def _excerpt(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARACTERS else f"{text[:MAX_TEXT_CHARACTERS].rstrip()} …"
