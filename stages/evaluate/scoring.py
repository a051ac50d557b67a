"""Scores renditions: one row of figures per utterance and a flat summary of the whole.

Columns without a prefix are about the synthesis; `recording_…`, `resynthesis_…` and `noise_…` are about what it is read
against. The
recording's own error rates and scores are what the instruments say about real speech: the figure to aim for. The
resynthesis is
what the decoder alone can reach. Noise of the recording's spectrum, level and rhythm is the floor. Networks hear the
last two for
some utterances only (`anchors`).

`wer` counts edits by the language's unit (English words, toned pinyin syllables, kana), `cer` by the characters of
those units
(letters, pinyin letters and tone digits, kana); figures over several languages add edits and units up. Chinese and
Japanese
have their unit's rate under its own name too: `language.ZH.pinyin_error_rate`, `language.JP.kana_error_rate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from stages.common.manifests import schema, with_optional
from stages.common.progress import progress_bar
from stages.metrics.hearing import Heard, Hearing, Sound
from stages.metrics.mos import torch_threads
from stages.metrics.rendition import MEASURED, NOISE, RECORDING, RESYNTHESIS, SYNTHESIS, VERSIONS, Rendition
from stages.metrics.sampling import evenly_spread
from stages.metrics.signal_metrics import (
    SignalDistance,
    analyse,
    compare,
    phone_duration_error_ms,
    relative_length_error,
)
from stages.metrics.speaker_similarity import Embedding, mean_voice, similarity
from stages.metrics.speech_recognition import count_errors
from stages.metrics.spoken_units import UNIT_RATES, separator_of, words_of

Row = dict[str, Any]

PREFIXES = {RECORDING: "recording_", RESYNTHESIS: "resynthesis_", SYNTHESIS: "", NOISE: "noise_"}
ALWAYS_HEARD = (RECORDING, SYNTHESIS)
MIN_WORDS = 3  # one word misheard is an error rate of 100 % for a prompt of one word

_VERSION_COLUMNS = {
    "transcript": pa.string(),
    "word_edits": pa.int32(),
    "character_edits": pa.int32(),
    "wer": pa.float64(),
    "cer": pa.float64(),
    "mos": pa.float64(),
    "dnsmos": pa.float64(),
    "speaker_similarity": pa.float64(),
}
_COMPARED = (SYNTHESIS, RESYNTHESIS, NOISE)  # with the recording
_SIGNAL_COLUMNS = tuple(field for field in asdict(SignalDistance()) if field != "reason")
_HEARD_COLUMNS = ("mos", "dnsmos", "speaker_similarity")
ROW_SCHEMA = with_optional(
    schema(
        utterance_id=pa.string(),
        speaker=pa.string(),
        language=pa.string(),
        synthetic=pa.bool_(),
        text=pa.string(),
        words=pa.int32(),
        characters=pa.int32(),
        phones=pa.int32(),
        **{f"{version}_seconds": pa.float64() for version in VERSIONS},
        **{f"{PREFIXES[version]}{name}": kind for version in ALWAYS_HEARD for name, kind in _VERSION_COLUMNS.items()},
        **{
            f"{PREFIXES[version]}{name}": pa.float64()
            for version in (SYNTHESIS, RESYNTHESIS)
            for name in _SIGNAL_COLUMNS
        },
        duration_ratio=pa.float64(),
        duration_error=pa.float64(),
        phone_duration_error_ms=pa.float64(),
        synthesis_cpu_seconds=pa.float64(),
        synthesis_wall_seconds=pa.float64(),
        real_time_factor=pa.float64(),
        note=pa.string(),
    ),
    **{
        f"{PREFIXES[version]}{name}": kind
        for version in (RESYNTHESIS, NOISE)
        for name, kind in _VERSION_COLUMNS.items()
    },
    **{f"{PREFIXES[NOISE]}{name}": pa.float64() for name in _SIGNAL_COLUMNS},
)

# Averaged over the utterances where they are known; error rates are ratios of sums instead.
_MEANS = (
    *(f"{PREFIXES[version]}{name}" for version in _COMPARED for name in _SIGNAL_COLUMNS),
    *(f"{PREFIXES[version]}{name}" for version in MEASURED for name in _HEARD_COLUMNS),
    "duration_ratio",
    "duration_error",
    "phone_duration_error_ms",
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
    "speaker_similarity",
    "recording_speaker_similarity",
)


@dataclass(frozen=True)
class ScoringSettings:
    """How to score. `threads` utterances are scored at once; it changes the time taken, never a figure.

    `anchors` is for how many utterances, spread evenly, the resynthesis is heard and noise is measured.
    """

    anchors: int = 20
    threads: int = 1
    show_progress: bool = True


@dataclass(frozen=True)
class _Measurement:
    heard: Mapping[str, Heard]
    distances: Mapping[str, SignalDistance]
    speaker: Embedding | None


def score(
    renditions: Sequence[Rendition],
    hearing: Hearing,
    speakers: Mapping[str, Sequence[Sound]],
    settings: ScoringSettings,
) -> tuple[list[Row], dict[str, float]]:
    """Return rows of ROW_SCHEMA in the order of `renditions`, and their summary (see `summarise`).

    `speakers` has recordings of each speaker that are not among the renditions, for the speaker similarity.
    """
    if not renditions:
        raise ValueError("there is no rendition to score")
    anchors = set(evenly_spread(len(renditions), settings.anchors))
    heard_versions = [MEASURED if number in anchors else ALWAYS_HEARD for number in range(len(renditions))]
    sounds = [
        Sound(rendition.waveform(version), rendition.sample_rate_hz, rendition.language)
        for rendition, versions in zip(renditions, heard_versions, strict=True)
        for version in versions
    ]
    known = [(name, sound) for name, own in speakers.items() for sound in own]
    # One thread for each utterance's computations: how sums are split over threads would change their last digits.
    heard: list[Heard] = []
    with (
        torch_threads(1),
        progress_bar("hearing", len(sounds) + len(known), "sound", disable=not settings.show_progress) as bar,
    ):
        for each in hearing.hear([*sounds, *(sound for _, sound in known)]):
            heard.append(each)
            bar.update()
    results = iter(heard)
    of_versions = [{version: next(results) for version in versions} for versions in heard_versions]
    embeddings: dict[str, list[Embedding | None]] = {name: [] for name in speakers}
    for name, _ in known:
        embeddings[name].append(next(results).embedding)
    voices = {name: mean_voice(own) for name, own in embeddings.items()}
    rows = []
    with ThreadPoolExecutor(max_workers=settings.threads) as executor:
        distances = executor.map(_distances, renditions, [NOISE in versions for versions in heard_versions])
        with progress_bar("comparing", len(renditions), "utterance", disable=not settings.show_progress) as bar:
            for rendition, heard_of, distance in zip(renditions, of_versions, distances, strict=True):
                rows.append(_row(rendition, _Measurement(heard_of, distance, voices.get(rendition.speaker))))
                bar.update()
    return rows, summarise(rows)


def speed(rows: Sequence[Row], peak_memory_bytes: int) -> dict[str, float]:
    """Return what speaking took, which differs from run to run: seconds of computing a second of speech, and the
    process's memory.
    """
    seconds = sum(row["synthesis_seconds"] for row in rows)
    spent = {"real_time_factor": "synthesis_wall_seconds", "cpu_real_time_factor": "synthesis_cpu_seconds"}
    factors = {name: sum(row[column] for row in rows) / seconds for name, column in spent.items() if seconds}
    return {**factors, "peak_memory_mib": peak_memory_bytes / 2**20}


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """Return the figures of all rows by name, and of each language and speaker where there are several.

    A single language that is not English has its figures too. Error rates are total edits over total length.
    `…_3_words`
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
                summary |= {
                    f"language.{name}.{prefix}{UNIT_RATES[name]}": figures[f"{prefix}wer"]
                    for prefix in PREFIXES.values()
                    if f"{prefix}wer" in figures
                }
    return summary


def _distances(rendition: Rendition, with_noise: bool) -> dict[str, SignalDistance]:
    recording = analyse(rendition.recording, rendition.sample_rate_hz)
    return {
        version: compare(
            recording, analyse(rendition.waveform(version), rendition.sample_rate_hz), aligned=version != SYNTHESIS
        )
        for version in _COMPARED
        if with_noise or version != NOISE
    }


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
        "duration_ratio": synthesis_seconds / rendition.seconds(RECORDING)
        if len(rendition.recording)
        else float("nan"),
        "duration_error": relative_length_error(rendition.seconds(RECORDING), synthesis_seconds),
        "phone_duration_error_ms": phone_duration_error_ms(
            rendition.recording_durations_frames,
            rendition.synthesis_durations_frames,
            rendition.frame_seconds,
        ),
        "synthesis_cpu_seconds": float(rendition.synthesis_cpu_seconds),
        "synthesis_wall_seconds": float(rendition.synthesis_wall_seconds),
        "real_time_factor": rendition.synthesis_wall_seconds / synthesis_seconds if synthesis_seconds else float("nan"),
    }
    for version in VERSIONS:
        row[f"{version}_seconds"] = rendition.seconds(version)
    for version in MEASURED:
        heard = measurement.heard.get(version)
        figures = _heard_figures(said, separator, rendition.language, heard, measurement.speaker) if heard else {}
        row |= {f"{PREFIXES[version]}{name}": figures.get(name) for name in _VERSION_COLUMNS}
    notes = []
    for version in _COMPARED:
        distance = measurement.distances.get(version)
        row |= {f"{PREFIXES[version]}{name}": getattr(distance, name) if distance else None for name in _SIGNAL_COLUMNS}
        if distance and distance.reason and version != NOISE:
            notes.append(f"{version}: {distance.reason}")
    row["note"] = "; ".join(notes)
    return {name: row[name] for name in ROW_SCHEMA.names}


def _heard_figures(said: Sequence[str], separator: str, language: str, heard: Heard, speaker: Embedding | None) -> Row:
    errors = count_errors(said, words_of(heard.transcript, language), separator)
    return {
        "transcript": heard.transcript,
        "word_edits": errors.word_edits,
        "character_edits": errors.character_edits,
        "wer": errors.word_error_rate,
        "cer": errors.character_error_rate,
        "mos": heard.mos,
        "dnsmos": heard.dnsmos,
        "speaker_similarity": similarity(heard.embedding, speaker),
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
        known = [row[name] for row in rows if row[name] is not None and math.isfinite(row[name])]
        figures[name] = float(np.mean(known)) if known else float("nan")
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _error_rates(rows: Sequence[Row], suffix: str) -> Iterator[tuple[str, float]]:
    for prefix in PREFIXES.values():
        for rate, edits, length in (("wer", "word_edits", "words"), ("cer", "character_edits", "characters")):
            heard = [row for row in rows if row[prefix + edits] is not None]
            total = sum(row[length] for row in heard)
            yield (
                f"{prefix}{rate}{suffix}",
                sum(row[prefix + edits] for row in heard) / total if total else float("nan"),
            )
