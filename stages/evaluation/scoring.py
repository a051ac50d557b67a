"""Scores renditions: one row of figures per utterance and a flat summary of the whole.

Columns without a prefix are about the synthesis; `recording_…` and `resynthesis_…` are about the other two
versions. The recording's own error rates and scores are what the instruments say about real speech: the
figure to aim for.

`wer` counts edits by the language's unit (English words, toned pinyin syllables, kana), `cer` by the characters of those units
(letters, pinyin letters and tone digits, kana); figures over several languages add edits and units up. Chinese and Japanese
have their unit's rate under its own name too: `language.ZH.pinyin_error_rate`, `language.JP.kana_error_rate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.common.manifests import schema
from stages.common.progress import progress_bar
from stages.measuring.mos import MosPredictor, torch_threads
from stages.measuring.rendition import RECORDING, RESYNTHESIS, SYNTHESIS, VERSIONS, Rendition
from stages.measuring.signal_metrics import (
    SignalDistance,
    analyse,
    compare,
    phone_duration_error_ms,
    relative_length_error,
)
from stages.measuring.speech_recognition import ErrorCount, SpeechRecogniser, count_errors
from stages.measuring.spoken_units import UNIT_RATES, separator_of, words_of
from stages.measuring.whisper_model import assemble_whisper

Row = dict[str, Any]

PREFIXES = {RECORDING: "recording_", RESYNTHESIS: "resynthesis_", SYNTHESIS: ""}
MIN_WORDS = 3  # one word misheard is an error rate of 100 % for a prompt of one word

_VERSION_COLUMNS = {
    "transcript": pa.string(),
    "word_edits": pa.int32(),
    "character_edits": pa.int32(),
    "wer": pa.float64(),
    "cer": pa.float64(),
    "mos": pa.float64(),
}
_SIGNAL_COLUMNS = ("mcd_db", "f0_rmse_cents", "f0_rmse_hz", "voicing_error")
ROW_SCHEMA = schema(
    utterance_id=pa.string(),
    speaker=pa.string(),
    language=pa.string(),
    synthetic=pa.bool_(),
    text=pa.string(),
    words=pa.int32(),
    characters=pa.int32(),
    phones=pa.int32(),
    **{f"{version}_seconds": pa.float64() for version in VERSIONS},
    **{f"{PREFIXES[version]}{name}": kind for version in VERSIONS for name, kind in _VERSION_COLUMNS.items()},
    **{
        f"{PREFIXES[version]}{name}": pa.float64()
        for version in (SYNTHESIS, RESYNTHESIS)
        for name in _SIGNAL_COLUMNS
    },
    duration_error=pa.float64(),
    phone_duration_error_ms=pa.float64(),
    synthesis_cpu_seconds=pa.float64(),
    synthesis_wall_seconds=pa.float64(),
    real_time_factor=pa.float64(),
    note=pa.string(),
)

# Averaged over the utterances where they are known; error rates and the real-time factor are ratios of sums
# instead.
_MEANS = (
    *_SIGNAL_COLUMNS,
    "duration_error",
    "phone_duration_error_ms",
    "mos",
    "recording_mos",
    "resynthesis_mos",
    *(f"resynthesis_{name}" for name in _SIGNAL_COLUMNS),
)
_GROUP_KEYS = (
    "n_utterances",
    "wer",
    "cer",
    "recording_wer",
    "recording_cer",
    "resynthesis_wer",
    "resynthesis_cer",
    "mcd_db",
    "f0_rmse_cents",
    "voicing_error",
    "duration_error",
    "mos",
    "recording_mos",
)


@dataclass(frozen=True)
class ScoringSettings:
    """How to score. `threads` utterances are scored at once; it changes the time taken, never a figure."""

    whisper_cache: Path  # where the recogniser's model folder is kept between runs
    threads: int = 1
    beam_size: int = 5
    mos: bool = True
    show_progress: bool = True


@dataclass(frozen=True)
class _Measurement:
    transcripts: dict[str, str]
    mos: dict[str, float]
    resynthesis: SignalDistance
    synthesis: SignalDistance


def score(renditions: Sequence[Rendition], settings: ScoringSettings) -> tuple[list[Row], dict[str, float]]:
    """Return rows of ROW_SCHEMA in the order of `renditions`, and their summary (see `summarise`)."""
    if not renditions:
        raise ValueError("there is no rendition to score")
    recognise = SpeechRecogniser(
        assemble_whisper(settings.whisper_cache), workers=settings.threads, beam_size=settings.beam_size
    )
    predict_mos = MosPredictor() if settings.mos else None
    rows = []
    # One thread for each utterance's computations: how sums are split over threads would change their last
    # digits.
    with torch_threads(1), ThreadPoolExecutor(max_workers=settings.threads) as executor:
        measurements = executor.map(lambda rendition: _measure(rendition, recognise, predict_mos), renditions)
        with progress_bar(
            "scoring", len(renditions), "utterance", disable=not settings.show_progress
        ) as progress:
            for rendition, measurement in zip(renditions, measurements, strict=True):
                rows.append(_row(rendition, measurement))
                progress.update()
    return rows, summarise(rows)


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """Return the figures of all rows by name, and of each language and speaker where there are several.

    A single language that is not English has its figures too. Error rates are total edits over total length. `…_3_words`
    are those of the utterances of three units or more. A figure that no utterance has is left out; `n_unscored` counts
    the utterances whose note says what is missing. Groups are named `language.EN.wer`, `speaker.NAME.mos`.
    """
    summary = _figures(rows)
    for kind in ("language", "speaker"):
        names = sorted({row[kind] for row in rows})
        shown = names if len(names) > 1 or (kind == "language" and names != ["EN"]) else []
        for name in shown:
            figures = _figures([row for row in rows if row[kind] == name])
            summary |= {f"{kind}.{name}.{key}": figures[key] for key in _GROUP_KEYS if key in figures}
            if kind == "language" and name in UNIT_RATES:
                summary |= {f"language.{name}.{prefix}{UNIT_RATES[name]}": figures[f"{prefix}wer"]
                            for prefix in PREFIXES.values() if f"{prefix}wer" in figures}  # fmt: skip
    return summary


def _measure(
    rendition: Rendition, recognise: SpeechRecogniser, predict_mos: MosPredictor | None
) -> _Measurement:
    rate_hz = rendition.sample_rate_hz
    transcripts, mos = {}, {}
    for version in VERSIONS:
        transcripts[version] = recognise(rendition.waveform(version), rate_hz, rendition.language)
        mos[version] = predict_mos(rendition.waveform(version), rate_hz) if predict_mos else float("nan")
    recording = analyse(rendition.recording, rate_hz)
    return _Measurement(
        transcripts,
        mos,
        resynthesis=compare(recording, analyse(rendition.resynthesis, rate_hz), aligned=True),
        synthesis=compare(recording, analyse(rendition.synthesis, rate_hz), aligned=False),
    )


def _row(rendition: Rendition, measurement: _Measurement) -> Row:
    said = words_of(rendition.text, rendition.language)
    separator = separator_of(rendition.language)
    synthesis_seconds = rendition.seconds(SYNTHESIS)
    row: Row = {
        "utterance_id": rendition.utterance_id,
        "speaker": rendition.speaker,
        "language": rendition.language,
        "synthetic": rendition.recording_is_synthetic,
        "text": rendition.text,
        "words": len(said),
        "characters": len(separator.join(said)),
        "phones": len(rendition.phones),
        "duration_error": relative_length_error(rendition.seconds(RECORDING), synthesis_seconds),
        "phone_duration_error_ms": phone_duration_error_ms(
            rendition.recording_durations_frames,
            rendition.synthesis_durations_frames,
            rendition.frame_seconds,
        ),
        "synthesis_cpu_seconds": float(rendition.synthesis_cpu_seconds),
        "synthesis_wall_seconds": float(rendition.synthesis_wall_seconds),
        "real_time_factor": rendition.synthesis_wall_seconds / synthesis_seconds
        if synthesis_seconds
        else float("nan"),
    }
    for version in VERSIONS:
        errors = count_errors(said, words_of(measurement.transcripts[version], rendition.language), separator)
        row[f"{version}_seconds"] = rendition.seconds(version)
        row |= {
            f"{PREFIXES[version]}{name}": value
            for name, value in _version_figures(measurement, version, errors).items()
        }
    notes = []
    for version, distance in ((SYNTHESIS, measurement.synthesis), (RESYNTHESIS, measurement.resynthesis)):
        row |= {f"{PREFIXES[version]}{name}": getattr(distance, name) for name in _SIGNAL_COLUMNS}
        if distance.reason:
            notes.append(f"{version}: {distance.reason}")
    row["note"] = "; ".join(notes)
    return {name: row[name] for name in ROW_SCHEMA.names}


def _version_figures(measurement: _Measurement, version: str, errors: ErrorCount) -> Row:
    return {
        "transcript": measurement.transcripts[version],
        "word_edits": errors.word_edits,
        "character_edits": errors.character_edits,
        "wer": errors.word_error_rate,
        "cer": errors.character_error_rate,
        "mos": measurement.mos[version],
    }


def _figures(rows: Sequence[Row]) -> dict[str, float]:
    longer = [row for row in rows if row["words"] >= MIN_WORDS]
    figures = {
        "n_utterances": float(len(rows)),
        f"n_utterances_{MIN_WORDS}_words": float(len(longer)),
        "n_unscored": float(sum(bool(row["note"]) for row in rows)),
    }
    figures |= dict(_error_rates(rows, "")) | dict(_error_rates(longer, f"_{MIN_WORDS}_words"))
    for name in _MEANS:
        known = [row[name] for row in rows if math.isfinite(row[name])]
        figures[name] = float(np.mean(known)) if known else float("nan")
    seconds = sum(row["synthesis_seconds"] for row in rows)
    for name, spent in (
        ("real_time_factor", "synthesis_wall_seconds"),
        ("cpu_real_time_factor", "synthesis_cpu_seconds"),
    ):
        figures[name] = sum(row[spent] for row in rows) / seconds if seconds else float("nan")
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _error_rates(rows: Sequence[Row], suffix: str) -> Iterator[tuple[str, float]]:
    for prefix in PREFIXES.values():
        for rate, edits, length in (("wer", "word_edits", "words"), ("cer", "character_edits", "characters")):
            total = sum(row[length] for row in rows)
            yield (
                f"{prefix}{rate}{suffix}",
                sum(row[prefix + edits] for row in rows) / total if total else float("nan"),
            )
