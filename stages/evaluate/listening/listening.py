"""Listening page: every utterance of one or several evaluations as recording, synthesis and resynthesis.

The page is one file that opens from disk: it embeds sounds, spectrograms, figures, style and scripts (listening.js,
listening_rating.js). Its texts about metrics come from their catalogue.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from stages.audio.loudness import integrated_lufs
from stages.common.errors import PipelineError
from stages.common.files import content_key
from stages.common.progress import progress_bar
from stages.evaluate.pictures import spectrogram_pngs
from stages.evaluate.renditions import PITCH_SECONDS, StoredRendition, StoredRenditions, read_renditions
from stages.evaluate.scoring import MIN_WORDS, PREFIXES
from stages.metrics.bootstrap import format_difference
from stages.metrics.catalogue import BY_KEY, METRICS, Metric, ScoreRow, format_figure
from stages.metrics.rendition import NOISE, RECORDING, RESYNTHESIS, SYNTHESIS
from stages.metrics.speech_recognition import align_words
from stages.metrics.spoken_units import UNIT_NAMES, UNIT_RATES, separator_of, words_of
from stages.reporting.pages import fill_page, inline_png

TEMPLATE = "listening.html.j2"
HTML_LANGUAGES = {"EN": "en", "ZH": "zh", "JP": "ja"}  # decide a browser's glyphs for Han characters
ONLY = SYNTHESIS  # name of a page's only experiment


@dataclass(frozen=True)
class Evaluation:
    """An evaluation with its name on the page, rows of utterances.parquet by id, and sounds."""

    name: str
    rows: Mapping[str, ScoreRow]
    sounds: StoredRenditions


@dataclass(frozen=True)
class Column:
    """A version of all utterances: the first evaluation's recordings, or an evaluation's synthesis or resynthesis."""

    name: str
    version: str
    evaluation: Evaluation

    @property
    def rated_as(self) -> str | None:
        """Return the name in ratings; None for a resynthesis, which is not rated."""
        return {RECORDING: RECORDING, SYNTHESIS: self.evaluation.name}.get(self.version)

    def metric(self, metric: Metric) -> Metric:
        """Return a metric with the keys of this version's columns."""
        prefix = PREFIXES[self.version]
        return dataclasses.replace(
            metric, key=prefix + metric.key, numerator=metric.numerator and prefix + metric.numerator
        )

    def figure(self, metric: Metric, rows: Sequence[ScoreRow]) -> float:
        """Return a metric's figure over rows; NaN if this version has none."""
        own = self.metric(metric)
        return own.figure(rows) if self.version in metric.versions and own.is_measured(rows) else math.nan


def write_listening_page(path: Path, experiments: Mapping[str, Path], title: str) -> None:
    """Write the page of evaluations by name; each folder holds utterances.parquet, renditions.parquet and audio/.

    The page shows the utterances that all have with the same text, in the first one's order, and lists the others.
    Raises PipelineError if a file is missing, no utterance is common, or an experiment has the recordings' name.
    """
    if RECORDING in experiments:
        raise PipelineError(
            f"listening: an experiment cannot be named {RECORDING!r}, the recordings' name in ratings; rename it"
        )
    evaluations = [_read(name, folder) for name, folder in experiments.items()]
    ids, left_out = _common(evaluations)
    columns = _columns(evaluations)
    utterances = []
    with progress_bar("listening page", len(ids), "utterance") as bar:
        for number, utterance_id in enumerate(ids, start=1):
            utterances.append(_utterance(number, utterance_id, columns))
            bar.update(1)
    metrics = [metric for metric in METRICS if _figures(metric, columns, ids)]
    first_rows = [evaluations[0].rows[utterance_id] for utterance_id in ids]
    content = {
        "experiments": [evaluation.name for evaluation in evaluations],
        "columns": [{"name": column.name, "version": column.version, "rated": column.rated_as} for column in columns],
        "metrics": [
            {"key": metric.key, "name": metric.name, "higher": metric.higher_is_better, "direction": metric.direction}
            for metric in metrics
        ],
        "pitch_seconds": PITCH_SECONDS,
        "utterances": utterances,
    }
    page = fill_page(
        Path(__file__).with_name(TEMPLATE),
        title=title,
        evaluations=evaluations,
        n_utterances=len(ids),
        left_out=left_out,
        warnings=list(_warnings(evaluations, ids)),
        cards=[_card(metric, columns, ids) for metric in metrics],
        notes=list(_notes(columns, ids)),
        metrics=metrics,
        languages=_groups("language", columns, ids, metrics),
        speakers=_groups("speaker", columns, ids, metrics),
        recordings=_origin(pd.Series([row["synthetic"] for row in first_rows])),
        codes=sorted({row["language"] for row in first_rows}),
        content=content | {"key": content_key(content)[:16]},
    )
    path.write_text(page, encoding="utf-8")


def _read(name: str, folder: Path) -> Evaluation:
    sounds = read_renditions(folder)
    rows = {row["utterance_id"]: row for row in pq.read_table(folder / "utterances.parquet").to_pylist()}
    if missing := sorted(sounds.by_utterance.keys() - rows.keys()):
        raise PipelineError(
            f"listening: {folder} has no figures for {len(missing)} of its utterances, such as {missing[0]!r}; "
            "`dvc repro -f evaluate` writes both again"
        )
    return Evaluation(name, rows, sounds)


def _common(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[str]]:
    """Return the ids of the utterances that all have with the same text, and descriptions of those left out."""
    texts = [
        {name: versions[SYNTHESIS].text for name, versions in evaluation.sounds.by_utterance.items()}
        for evaluation in evaluations
    ]
    common = [name for name, text in texts[0].items() if all(other.get(name) == text for other in texts)]
    if not common:
        raise PipelineError(
            "listening: no utterance with the same text is common to all; evaluate them on the same corpus and split"
        )
    left_out = []
    for evaluation, names in zip(evaluations, texts, strict=True):
        if others := [name for name in names if name not in set(common)]:
            left_out.append(f"{len(others)} of {evaluation.name}: {', '.join(others)}")
    return common, left_out


def _columns(evaluations: Sequence[Evaluation]) -> list[Column]:
    """Return the page's columns: the recording, every synthesis, every resynthesis."""
    alone = len(evaluations) == 1
    columns = [Column("Recording", RECORDING, evaluations[0])]
    columns += [Column("Synthesis" if alone and one.name == ONLY else one.name, SYNTHESIS, one) for one in evaluations]
    return columns + [
        Column("Resynthesis" if alone else f"{one.name}, resynthesis", RESYNTHESIS, one) for one in evaluations
    ]


def _utterance(number: int, utterance_id: str, columns: Sequence[Column]) -> dict[str, Any]:
    stored = [column.evaluation.sounds.by_utterance[utterance_id][column.version] for column in columns]
    rows = [column.evaluation.rows[utterance_id] for column in columns]
    sounds = [one.samples() for one in stored]
    pictures = spectrogram_pngs([(samples, one.sample_rate_hz) for samples, one in zip(sounds, stored, strict=True)])
    versions = [
        _version(column, row, one)
        | {
            "seconds": round(len(samples) / one.sample_rate_hz, 4),
            "lufs": integrated_lufs(samples, one.sample_rate_hz),
            "spectrogram": inline_png(picture),
        }
        for column, row, one, samples, picture in zip(columns, rows, stored, sounds, pictures, strict=True)
    ]
    first = stored[0]
    spoken = [(column, row) for column, row in zip(columns, rows, strict=True) if column.version == SYNTHESIS]
    notes = [note if len(spoken) == 1 else f"{column.name}: {note}" for column, row in spoken if (note := row["note"])]
    return {
        "id": utterance_id,
        "number": number,
        "text": first.text,
        "lang": HTML_LANGUAGES.get(first.language, ""),
        "language": first.language,
        "speaker": first.speaker,
        "notes": notes,
        "versions": versions,
        "differences": _differences(columns, rows),
    }


def _version(column: Column, row: ScoreRow, stored: StoredRendition) -> dict[str, Any]:
    transcript = row.get(f"{PREFIXES[column.version]}transcript")  # None if it was not transcribed
    separator = separator_of(stored.language)
    differences = (
        align_words(words_of(stored.text, stored.language), words_of(transcript, stored.language))
        if transcript is not None
        else None
    )
    figures = {metric: value for metric in METRICS if math.isfinite(value := column.figure(metric, [row]))}
    origins = {
        RECORDING: "synthetic source" if row["synthetic"] else "original",
        RESYNTHESIS: "synthetic, from spectrogram",
        SYNTHESIS: "synthetic, from text",
    }
    return {
        "origin": origins[column.version],
        "audio": f"data:audio/flac;base64,{base64.b64encode(stored.audio.read_bytes()).decode('ascii')}",
        "f0": np.round(stored.f0_hz).astype(int).tolist(),
        "phones": [[phone, round(start, 3), round(end, 3)] for phone, start, end in stored.phone_seconds],
        "heard": None
        if differences is None
        else [[part.kind, separator.join(part.said), separator.join(part.heard)] for part in differences],
        "transcript": transcript if stored.language in UNIT_RATES else "",
        "figures": {metric.key: [value, format_figure(value, metric.unit)] for metric, value in figures.items()},
    }


def _differences(columns: Sequence[Column], rows: Sequence[ScoreRow]) -> dict[str, dict[str, list[Any]]]:
    """Return each synthesis minus each earlier one, by `later,earlier` (column indices) and metric."""
    syntheses = [index for index, column in enumerate(columns) if column.version == SYNTHESIS]
    differences: dict[str, dict[str, list[Any]]] = {}
    for earlier, later in itertools.combinations(syntheses, 2):
        values = {
            metric: columns[later].figure(metric, [rows[later]]) - columns[earlier].figure(metric, [rows[earlier]])
            for metric in METRICS
        }
        differences[f"{later},{earlier}"] = {
            metric.key: [value, format_difference(value, metric.unit)]
            for metric, value in values.items()
            if math.isfinite(value)
        }
    return differences


def _warnings(evaluations: Sequence[Evaluation], ids: Sequence[str]) -> Iterator[str]:
    first = evaluations[0]
    for other in evaluations[1:]:
        pairs = [(first.sounds.by_utterance[one][RECORDING], other.sounds.by_utterance[one][RECORDING]) for one in ids]
        n_different = sum(one.audio.read_bytes() != two.audio.read_bytes() for one, two in pairs)
        if n_different:
            yield (
                f"{n_different} of the {len(ids)} recordings differ between {other.name} and {first.name}; "
                f"this page plays those of {first.name}."
            )
    for evaluation in evaluations:
        n_unscored = sum(bool(evaluation.rows[one]["note"]) for one in ids)
        if n_unscored:
            yield (
                f"{n_unscored} utterance{'' if n_unscored == 1 else 's'} of {evaluation.name} could not be fully "
                "scored; missing values are left out of the averages. The reasons are shown with the utterances."
            )


def _figures(metric: Metric, columns: Sequence[Column], ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return a metric's figures over the utterances as (column, figure), for the columns that have one."""
    values = [(column.name, column.figure(metric, [column.evaluation.rows[one] for one in ids])) for column in columns]
    return [(name, format_figure(value, metric.unit)) for name, value in values if math.isfinite(value)]


def _card(metric: Metric, columns: Sequence[Column], ids: Sequence[str]) -> dict[str, Any]:
    spoken = [column for column in columns if column.version == SYNTHESIS]
    others = [
        *(column for column in columns if column.version != SYNTHESIS),
        Column("Noise", NOISE, columns[0].evaluation),
    ]
    return {"metric": metric, "spoken": _figures(metric, spoken, ids), "others": _figures(metric, others, ids)}


def _notes(columns: Sequence[Column], ids: Sequence[str]) -> Iterator[str]:
    """Yield the error rates of longer utterances if there are short ones, where one wrong word can mean 100 %."""
    longer = [one for one in ids if columns[0].evaluation.rows[one]["words"] >= MIN_WORDS]
    if 0 < len(longer) < len(ids):
        figures = ", ".join(f"{name} {figure}" for name, figure in _figures(BY_KEY["cer"], columns, longer))
        yield f"{BY_KEY['cer'].name} of the {len(longer)} utterances of {MIN_WORDS} words or more: {figures}."


def _groups(
    kind: str, columns: Sequence[Column], ids: Sequence[str], metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """Return a line for every speaker or language: facts, and each metric of the syntheses and of the recordings."""
    scores = pd.DataFrame([columns[0].evaluation.rows[one] for one in ids])
    lines = []
    for label, group in scores.groupby(kind):
        name = str(label)
        group_ids = group["utterance_id"].tolist()
        cells = [
            [
                _figures(metric, [column for column in columns if column.version == version], group_ids)
                for version in (SYNTHESIS, RECORDING)
            ]
            for metric in metrics
        ]
        lines.append(
            {
                "name": name,
                "unit": UNIT_NAMES.get(name, "word"),
                "codes": ", ".join(sorted(group["language"].unique())),
                "origin": _origin(group["synthetic"]),
                "count": len(group),
                "cells": cells,
            }
        )
    return lines


def _origin(synthetic: pd.Series[bool]) -> str:
    return "synthetic" if synthetic.all() else "partly synthetic" if synthetic.any() else "person"
