"""Scores of renditions: one row per utterance, and a flat summary.

Columns without a prefix are about the synthesis; `recording_…`, `resynthesis_…` and `noise_…` are its references. The
recording's own error rates and scores show how the metrics rate real speech, which is the figure to aim for. The
resynthesis shows what the decoder alone can reach. Noise with the recording's spectrum, level and rhythm is the floor.
The perceptual networks process the last two only for the `anchors`.

`wer` counts edits by the language's unit (English words, toned pinyin syllables, kana), `cer` by the characters of
those units (letters, pinyin letters and tone digits, kana). Figures over several languages sum edits and units. Chinese
and Japanese also list the rate under their unit's name: `language.ZH.pinyin_error_rate`, `language.JP.kana_error_rate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.common.manifests import schema, with_optional
from stages.common.progress import progress_bar
from stages.metrics.catalogue import ScoreRow
from stages.metrics.mos import torch_threads
from stages.metrics.perceptual import PerceptualEvaluator, PerceptualResult, Sound
from stages.metrics.rendition import MEASURED, NOISE, RECORDING, RESYNTHESIS, SYNTHESIS, VERSIONS, Rendition
from stages.metrics.sampling import evenly_spaced
from stages.metrics.signal_metrics import (
    SignalDistance,
    analyse,
    compare,
    phone_duration_error_ms,
    relative_length_error,
)
from stages.metrics.speaker_similarity import Embedding, mean_embedding, similarity
from stages.metrics.speech_recognition import count_errors
from stages.metrics.spoken_units import UNIT_RATES, separator_of, words_of

PREFIXES = {RECORDING: "recording_", RESYNTHESIS: "resynthesis_", SYNTHESIS: "", NOISE: "noise_"}
ALWAYS_EVALUATED = (RECORDING, SYNTHESIS)  # by the perceptual networks; the other versions only for anchors
MIN_WORDS = 3  # in a prompt of one word, one wrong word is an error rate of 100 %

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
_PERCEPTUAL_COLUMNS = ("mos", "dnsmos", "speaker_similarity")
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
        **{
            f"{PREFIXES[version]}{name}": kind
            for version in ALWAYS_EVALUATED
            for name, kind in _VERSION_COLUMNS.items()
        },
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

# Averaged over the utterances that have a value; error rates are ratios of sums instead.
_MEANS = (
    *(f"{PREFIXES[version]}{name}" for version in _COMPARED for name in _SIGNAL_COLUMNS),
    *(f"{PREFIXES[version]}{name}" for version in MEASURED for name in _PERCEPTUAL_COLUMNS),
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
    """Settings of scoring: number of utterances scored at once (`threads`, never changes a figure) and of `anchors`.

    Anchors are evenly spaced utterances whose resynthesis is processed by the networks and whose noise is measured.
    """

    anchors: int = 20
    threads: int = 1
    show_progress: bool = True


@dataclass(frozen=True)
class _Measurement:
    perceptual: Mapping[str, PerceptualResult]
    distances: Mapping[str, SignalDistance]
    speaker: Embedding | None


def score(
    renditions: Sequence[Rendition],
    evaluator: PerceptualEvaluator,
    speakers: Mapping[str, Sequence[Sound]],
    settings: ScoringSettings,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return rows of ROW_SCHEMA in the order of `renditions`, and their summary (see `summarise`).

    `speakers` holds other recordings of each speaker, the reference of the speaker similarity.
    """
    if not renditions:
        raise ValueError("there is no rendition to score")
    anchors = set(evenly_spaced(len(renditions), settings.anchors))
    versions_of = [MEASURED if number in anchors else ALWAYS_EVALUATED for number in range(len(renditions))]
    sounds = [
        Sound(rendition.waveform(version), rendition.sample_rate_hz, rendition.language)
        for rendition, versions in zip(renditions, versions_of, strict=True)
        for version in versions
    ]
    references = [(name, sound) for name, recordings in speakers.items() for sound in recordings]
    sounds += [sound for _, sound in references]
    results: list[PerceptualResult] = []
    # One torch thread per utterance: splitting sums across threads would change their last digits.
    with torch_threads(1), progress_bar("networks", len(sounds), "sound", disable=not settings.show_progress) as bar:
        for result in evaluator.evaluate(sounds):
            results.append(result)
            bar.update()
    remaining = iter(results)
    perceptual = [{version: next(remaining) for version in versions} for versions in versions_of]
    embeddings: dict[str, list[Embedding | None]] = {name: [] for name in speakers}
    for name, _ in references:
        embeddings[name].append(next(remaining).embedding)
    speaker_embeddings = {name: mean_embedding(each) for name, each in embeddings.items()}
    rows = []
    with ThreadPoolExecutor(max_workers=settings.threads) as executor:
        distances = executor.map(_distances, renditions, [NOISE in versions for versions in versions_of])
        with progress_bar("comparing", len(renditions), "utterance", disable=not settings.show_progress) as bar:
            for rendition, heard, distance in zip(renditions, perceptual, distances, strict=True):
                reference = speaker_embeddings.get(rendition.speaker)
                rows.append(_row(rendition, _Measurement(heard, distance, reference)))
                bar.update()
    return rows, summarise(rows)


def speed(rows: Sequence[ScoreRow], peak_memory_bytes: int) -> dict[str, float]:
    """Return the cost of synthesis, which varies between runs: real-time factors and the process's peak memory."""
    seconds = sum(row["synthesis_seconds"] for row in rows)
    columns = {"real_time_factor": "synthesis_wall_seconds", "cpu_real_time_factor": "synthesis_cpu_seconds"}
    factors = {name: sum(row[column] for row in rows) / seconds for name, column in columns.items() if seconds}
    return {**factors, "peak_memory_mib": peak_memory_bytes / 2**20}


def summarise(rows: Sequence[ScoreRow]) -> dict[str, float]:
    """Return the figures of all rows by name, and those of each language and speaker if there are several.

    A single language other than English is listed too. Error rates are total edits over total length; `…_3_words` are
    those of the utterances of at least three units. A figure without any value is omitted; `n_unscored` counts the
    utterances whose note says what is missing. Groups are named `language.EN.wer`, `speaker.NAME.mos`.
    """
    scores = pd.DataFrame(rows)
    summary = _figures(scores)
    for kind in ("language", "speaker"):
        groups = scores.groupby(kind)
        if len(groups) == 1 and (kind == "speaker" or "EN" in groups.groups):
            continue
        for label, group in groups:
            name = str(label)
            figures = _figures(group)
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


def _row(rendition: Rendition, measurement: _Measurement) -> dict[str, Any]:
    said = words_of(rendition.text, rendition.language)
    separator = separator_of(rendition.language)
    synthesis_seconds = rendition.seconds(SYNTHESIS)
    row: dict[str, Any] = {
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
        result = measurement.perceptual.get(version)
        figures = _perceptual_figures(said, rendition.language, result, measurement.speaker) if result else {}
        row |= {f"{PREFIXES[version]}{name}": figures.get(name) for name in _VERSION_COLUMNS}
    notes = []
    for version in _COMPARED:
        distance = measurement.distances.get(version)
        row |= {f"{PREFIXES[version]}{name}": getattr(distance, name) if distance else None for name in _SIGNAL_COLUMNS}
        if distance and distance.reason and version != NOISE:
            notes.append(f"{version}: {distance.reason}")
    row["note"] = "; ".join(notes)
    return {name: row[name] for name in ROW_SCHEMA.names}


def _perceptual_figures(
    said: Sequence[str], language: str, result: PerceptualResult, speaker: Embedding | None
) -> dict[str, Any]:
    errors = count_errors(said, words_of(result.transcript, language), separator_of(language))
    return {
        "transcript": result.transcript,
        "word_edits": errors.word_edits,
        "character_edits": errors.character_edits,
        "wer": errors.word_error_rate,
        "cer": errors.character_error_rate,
        "mos": result.mos,
        "dnsmos": result.dnsmos,
        "speaker_similarity": similarity(result.embedding, speaker),
    }


def _figures(scores: pd.DataFrame) -> dict[str, float]:
    longer = scores[scores["words"] >= MIN_WORDS]
    figures = {
        "n_utterances": float(len(scores)),
        f"n_utterances_{MIN_WORDS}_words": float(len(longer)),
        "n_unscored": float((scores["note"] != "").sum()),
    }
    figures |= dict(_error_rates(scores, "")) | dict(_error_rates(longer, f"_{MIN_WORDS}_words"))
    for name in _MEANS:
        values = scores[name].to_numpy(dtype=np.float64)
        if np.isfinite(values).any():
            figures[name] = float(values[np.isfinite(values)].mean())
    return figures


def _error_rates(scores: pd.DataFrame, suffix: str) -> Iterator[tuple[str, float]]:
    for prefix in PREFIXES.values():
        for rate, edits, length in (("wer", "word_edits", "words"), ("cer", "character_edits", "characters")):
            transcribed = scores.dropna(subset=[prefix + edits])
            if total := transcribed[length].sum():
                yield f"{prefix}{rate}{suffix}", float(transcribed[prefix + edits].sum() / total)
