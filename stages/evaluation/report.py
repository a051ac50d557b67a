"""The listening report: a folder of a page, sounds and pictures that opens from disk, without a network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from stages.common.pages import fill_page
from stages.evaluation.pictures import write_alignment_picture, write_spectrogram_picture
from stages.evaluation.scoring import MIN_WORDS, PREFIXES
from stages.measuring.metrics import METRICS, Metric, format_figure
from stages.measuring.rendition import RECORDING, RESYNTHESIS, SYNTHESIS, VERSIONS, FloatArray, Rendition
from stages.measuring.speech_recognition import WordDifference, align_words
from stages.measuring.spoken_units import UNIT_NAMES, UNIT_RATES, separator_of, words_of

TEMPLATE = "report.html.j2"
VERSION_NAMES = {RECORDING: "Recording", RESYNTHESIS: "Resynthesis", SYNTHESIS: "Synthesis"}
RECORDED, BY_MACHINE, MIXED = "person", "synthetic", "partly synthetic"
HTML_LANGUAGES = {"EN": "en", "ZH": "zh", "JP": "ja"}  # which glyphs a browser takes for Han characters


@dataclass(frozen=True)
class ReportContext:
    """What the page says about the run. `facts` are shown as they come: name → value."""

    title: str
    voice_name: str
    facts: Mapping[str, str] = field(default_factory=dict)
    attribution: str = ""


_TABLE_METRICS = ("cer", "wer", "mos", "mcd_db", "f0_rmse_cents", "voicing_error", "duration_error")


def write_report(
    folder: Path,
    renditions: Sequence[Rendition],
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, float],
    context: ReportContext,
) -> None:
    """Write index.html, audio/ and pictures/ into `folder`, which is made if need be.

    `rows` and `summary` come from `scoring.score` on the same renditions; rows in another order are found
    by id. Raises ValueError where a rendition has no row.
    """
    by_id = {row["utterance_id"]: row for row in rows}
    missing = [rendition.utterance_id for rendition in renditions if rendition.utterance_id not in by_id]
    if missing:
        raise ValueError(f"no scores for {len(missing)} renditions, the first is {missing[0]!r}")
    for name in ("audio", "pictures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    utterances = [
        _write_utterance(folder, number, rendition, by_id[rendition.utterance_id])
        for number, rendition in enumerate(renditions, start=1)
    ]
    page = fill_page(
        Path(__file__).with_name(TEMPLATE),
        context=context,
        utterances=utterances,
        cards=[_card(metric, summary) for metric in METRICS],
        languages=_languages(summary),
        speakers=_speakers(rows, summary),
        n_unscored=int(summary.get("n_unscored", 0)),
        longer=_longer(summary),
        columns=[metric for metric in METRICS if metric.key in _TABLE_METRICS],
        codes=sorted({rendition.language for rendition in renditions}),
        version_names=VERSION_NAMES,
        synthetic_recordings=_origin_of(rows) if any(row["synthetic"] for row in rows) else "",
    )
    (folder / "index.html").write_text(page, encoding="utf-8")


def _write_utterance(
    folder: Path, number: int, rendition: Rendition, row: Mapping[str, Any]
) -> dict[str, Any]:
    stem = file_stem(number, rendition.utterance_id)
    for version in VERSIONS:
        write_wav(
            folder / "audio" / f"{stem}-{version}.wav", rendition.waveform(version), rendition.sample_rate_hz
        )
    write_spectrogram_picture(folder / "pictures" / f"{stem}-spectrograms.png", rendition)
    write_alignment_picture(folder / "pictures" / f"{stem}-alignment.png", rendition)
    said = words_of(rendition.text, rendition.language)
    versions = {
        version: {
            "audio": f"audio/{stem}-{version}.wav",
            "origin": _origin(version, rendition),
            "transcript": row[f"{PREFIXES[version]}transcript"] if rendition.language in UNIT_RATES else "",
            "seconds": f"{rendition.seconds(version):.1f} s",
            "differences": _readable(
                align_words(said, words_of(row[f"{PREFIXES[version]}transcript"], rendition.language)),
                rendition,
            ),
            "cer": format_figure(row[f"{PREFIXES[version]}cer"], "percent"),
            "mos": format_figure(row[f"{PREFIXES[version]}mos"], "score"),
        }
        for version in VERSIONS
    }
    return {
        "anchor": f"utterance-{number}",
        "lang": HTML_LANGUAGES.get(rendition.language, ""),
        "number": number,
        "row": row,
        "versions": versions,
        "cells": [_cell(metric, row) for metric in METRICS if metric.key in _TABLE_METRICS],
        "spectrograms": f"pictures/{stem}-spectrograms.png",
        "alignment": f"pictures/{stem}-alignment.png",
        "has_recording_alignment": rendition.recording_durations_frames is not None,
    }


def file_stem(number: int, utterance_id: str) -> str:
    """Return a file name, unique by its number, that is safe on every system and in a link."""
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9_-]+', '-', utterance_id)[:60].strip('-')}".rstrip("-")


def write_wav(path: Path, waveform: FloatArray, sample_rate_hz: int) -> None:
    """Write 16-bit PCM, which every browser plays; beyond full scale is clipped, not a number is silent."""
    samples = np.clip(
        np.nan_to_num(np.asarray(waveform, dtype=np.float32), nan=0.0, posinf=1.0, neginf=-1.0), -1.0, 1.0
    )
    soundfile.write(path, samples, sample_rate_hz, subtype="PCM_16", format="WAV")


def _origin(version: str, rendition: Rendition) -> str:
    if version == RECORDING:
        return "synthetic source" if rendition.recording_is_synthetic else "original"
    return "synthetic, from spectrogram" if version == RESYNTHESIS else "synthetic, from text"


def _origin_of(rows: Sequence[Mapping[str, Any]]) -> str:
    kinds = {bool(row["synthetic"]) for row in rows}
    return MIXED if len(kinds) > 1 else BY_MACHINE if kinds == {True} else RECORDED


def _readable(differences: list[WordDifference], rendition: Rendition) -> list[dict[str, str]]:
    space = separator_of(rendition.language)
    return [
        {"kind": part.kind, "said": space.join(part.said), "heard": space.join(part.heard)}
        for part in differences
    ]


def _cell(metric: Metric, row: Mapping[str, Any]) -> dict[str, str]:
    value = row[metric.key]
    return {"text": format_figure(value, metric.unit), "sort": f"{value:.6g}" if math.isfinite(value) else ""}


def _card(metric: Metric, summary: Mapping[str, float]) -> dict[str, Any]:
    others = [
        f"{version} {format_figure(summary[PREFIXES[version] + metric.key], metric.unit)}"
        for version in (RECORDING, RESYNTHESIS)
        if version in metric.versions and PREFIXES[version] + metric.key in summary
    ]
    return {
        "name": metric.name,
        "value": format_figure(summary.get(metric.key), metric.unit),
        "beside": others,
        "meaning": f"{metric.meaning} {metric.direction}",
    }


def _longer(summary: Mapping[str, float]) -> str:
    count = int(summary.get(f"n_utterances_{MIN_WORDS}_words", 0))
    if count in (0, int(summary["n_utterances"])):
        return ""
    figures = [
        f"{name} {format_figure(summary.get(f'{prefix}cer_{MIN_WORDS}_words'), 'percent')}"
        for name, prefix in (("synthesis", ""), ("recording", "recording_"), ("resynthesis", "resynthesis_"))
    ]
    return (
        f"Character error rate of the {count} utterances of {MIN_WORDS} words or more: {', '.join(figures)}."
    )


def _languages(summary: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the table of languages: what is counted in each, and its figures; empty for English alone."""
    keys = (("wer", "percent"), ("resynthesis_wer", "percent"), ("recording_wer", "percent"), ("cer", "percent"), ("recording_cer", "percent"),
            ("mos", "score"), ("recording_mos", "score"))  # fmt: skip
    return [
        {"name": name, "unit": UNIT_NAMES.get(name, "word"), "count": int(figures["n_utterances"]), "cells": _cells(figures, keys)}
        for name, figures in _groups("language", summary).items()
    ]


def _speakers(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the table of speakers: their languages, whose voice the recordings are, and their figures."""
    keys = (("cer", "percent"), ("recording_cer", "percent"), ("wer", "percent"), ("mos", "score"), ("recording_mos", "score"), ("mcd_db", "dB"),
            ("f0_rmse_cents", "cents"))  # fmt: skip
    groups = _groups("speaker", summary)
    table = []
    for name in sorted({row["speaker"] for row in rows}):
        own = [row for row in rows if row["speaker"] == name]
        table.append({"name": name, "codes": ", ".join(sorted({row["language"] for row in own})), "origin": _origin_of(own), "count": len(own),
                      "cells": _cells(groups.get(name, summary), keys)})  # fmt: skip
    return table


def _groups(kind: str, summary: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the figures of a kind of group by the group's name, from keys such as `speaker.NAME.wer`."""
    found: dict[str, dict[str, float]] = {}
    for key, value in summary.items():
        prefix, _, rest = key.partition(".")
        name, _, figure = rest.rpartition(".")  # a speaker's name may hold dots, a figure's does not
        if name and prefix == kind:
            found.setdefault(name, {})[figure] = value
    return found


def _cells(figures: Mapping[str, float], keys: Sequence[tuple[str, str]]) -> list[str]:
    return [format_figure(figures.get(key), unit) for key, unit in keys]
