"""Stored sounds of an evaluation, so that pages of several evaluations need no voice."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from model.audio.pitch import MIN_SECONDS, pitch_track
from stages.common import manifests
from stages.common.errors import PipelineError
from stages.metrics.rendition import RECORDING, RESYNTHESIS, SYNTHESIS, VERSIONS, FloatArray, Rendition

TABLE, AUDIO = "renditions.parquet", "audio"
PITCH_SECONDS = 0.005  # between two values of f0_hz
SCHEMA = manifests.with_optional(
    manifests.schema(
        utterance_id=pa.string(),
        speaker=pa.string(),
        language=pa.string(),
        text=pa.string(),
        version=pa.string(),
        audio=pa.string(),
        sample_rate_hz=pa.int32(),
        hop_samples=pa.int32(),
        phones=pa.list_(pa.string()),
        f0_hz=pa.list_(pa.float32()),
    ),
    durations_frames=pa.list_(pa.int32()),
)


@dataclass(frozen=True)
class StoredRendition:
    """One version of an utterance. Legend: P phones, F pitch values, one every 5 ms, 0 where unvoiced.

    `durations_frames` (P,) is in frames of `hop_samples`; None if the version is not aligned.
    """

    utterance_id: str
    speaker: str
    language: str
    text: str
    version: str  # one of VERSIONS
    audio: Path
    sample_rate_hz: int
    hop_samples: int
    phones: tuple[str, ...]
    durations_frames: tuple[int, ...] | None
    f0_hz: FloatArray

    def samples(self) -> FloatArray:
        """Return the waveform (S,), full scale ±1."""
        return np.asarray(soundfile.read(self.audio, dtype="float32")[0])

    @property
    def phone_seconds(self) -> list[tuple[str, float, float]]:
        """Return the phones with their starts and ends; none if the version is not aligned."""
        if self.durations_frames is None:
            return []
        bounds = np.cumsum([0, *self.durations_frames]) * (self.hop_samples / self.sample_rate_hz)
        return list(zip(self.phones, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))


@dataclass(frozen=True)
class StoredRenditions:
    """The content of an evaluation's folder: versions by utterance id and name, and facts about the voice."""

    by_utterance: Mapping[str, Mapping[str, StoredRendition]]
    about: Mapping[str, Any]


def write_renditions(folder: Path, renditions: Sequence[Rendition], about: Mapping[str, Any]) -> None:
    """Write renditions.parquet, a row per utterance and version, and audio/*.flac (16 bits) into a folder.

    `about` (JSON) holds the facts that a page shows about the voice. The same renditions give the same bytes.
    """
    (folder / AUDIO).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, rendition in enumerate(renditions, start=1):
        stem = file_stem(number, rendition.utterance_id)
        aligned = rendition.recording_durations_frames
        durations = {RECORDING: aligned, RESYNTHESIS: aligned, SYNTHESIS: rendition.synthesis_durations_frames}
        for version in VERSIONS:
            audio = f"{AUDIO}/{stem}-{version}.flac"
            samples = write_flac(folder / audio, rendition.waveform(version), rendition.sample_rate_hz)
            frames = durations[version]
            rows.append(
                {
                    "utterance_id": rendition.utterance_id,
                    "speaker": rendition.speaker,
                    "language": rendition.language,
                    "text": rendition.text,
                    "version": version,
                    "audio": audio,
                    "sample_rate_hz": rendition.sample_rate_hz,
                    "hop_samples": rendition.hop_samples,
                    "phones": list(rendition.phones),
                    "durations_frames": None if frames is None else np.asarray(frames).tolist(),
                    "f0_hz": _pitch_hz(samples, rendition.sample_rate_hz),
                }
            )
    table = pa.Table.from_pylist(rows, schema=SCHEMA).replace_schema_metadata(manifests.packed_facts(about))
    manifests.write_manifest(folder / TABLE, table)


def read_renditions(folder: Path) -> StoredRenditions:
    """Return the output of `write_renditions` in a folder; raises PipelineError if the table or a sound is missing."""
    try:
        table = pq.read_table(folder / TABLE)
    except (OSError, pa.ArrowInvalid) as error:
        raise PipelineError(
            f"{folder / TABLE} cannot be read ({error}); restore it with `dvc checkout` or `dvc repro evaluate`"
        ) from None
    if not table.schema.equals(SCHEMA):
        raise PipelineError(
            f"{folder / TABLE} has the columns of another program version; `dvc repro -f evaluate` writes it again"
        )
    by_utterance: dict[str, dict[str, StoredRendition]] = {}
    for row in table.to_pylist():
        durations = row["durations_frames"]
        stored = StoredRendition(
            **row
            | {
                "audio": folder / row["audio"],
                "phones": tuple(row["phones"]),
                "f0_hz": np.array(row["f0_hz"], dtype=np.float32),
                "durations_frames": None if durations is None else tuple(durations),
            }
        )
        if not stored.audio.is_file():
            raise PipelineError(
                f"{stored.audio}: no such file, although {TABLE} lists it; restore it with `dvc checkout` or "
                "`dvc repro evaluate`"
            )
        by_utterance.setdefault(stored.utterance_id, {})[stored.version] = stored
    return StoredRenditions(by_utterance, manifests.metadata_of(table))


def has_renditions(folder: Path) -> bool:
    """Return whether an evaluation's folder holds its sounds."""
    return (folder / TABLE).is_file()


def file_stem(number: int, utterance_id: str) -> str:
    """Return a file name without suffix, unique by its number, that is safe on every system and in links."""
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9_-]+', '-', utterance_id)[:60].strip('-')}".rstrip("-")


def write_flac(path: Path, waveform: FloatArray, sample_rate_hz: int) -> FloatArray:
    """Write a waveform (S,) with 16 bits and return the written samples: clipped to full scale, NaN as 0."""
    samples = np.clip(
        np.nan_to_num(np.asarray(waveform, dtype=np.float32), nan=0.0, posinf=1.0, neginf=-1.0), -1.0, 1.0
    )
    if not len(samples):
        samples = np.zeros(1, dtype=np.float32)  # browsers refuse a file without samples
    encoded = io.BytesIO()  # via memory, so that a full disk raises a plain OSError
    soundfile.write(encoded, samples, sample_rate_hz, subtype="PCM_16", format="FLAC")
    path.write_bytes(encoded.getvalue())
    return samples


def _pitch_hz(samples: FloatArray, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Return the pitch (F,) every PITCH_SECONDS, 0 where unvoiced; empty if the sound is too short to analyse."""
    if len(samples) < MIN_SECONDS * sample_rate_hz:
        return np.zeros(0, dtype=np.float32)
    return pitch_track(samples, sample_rate_hz, 1000 * PITCH_SECONDS)[0].astype(np.float32)
