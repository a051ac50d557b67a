"""The sounds of an evaluation, kept beside its figures, so that pages can be made of several evaluations without any
voice.
"""

from __future__ import annotations

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
    """One version of an utterance. Legend: P phones, F values of pitch, one every 5 ms, 0 where unvoiced.

    `durations_frames` (P,) in frames of `hop_samples`; None where it is not known when each phone is spoken.
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
        """Return the sound (S,), full scale ±1."""
        return np.asarray(soundfile.read(self.audio, dtype="float32")[0])

    @property
    def phone_seconds(self) -> list[tuple[str, float, float]]:
        """Phones with their starts and ends; none where they are not known."""
        if self.durations_frames is None:
            return []
        bounds = np.cumsum([0, *self.durations_frames]) * (self.hop_samples / self.sample_rate_hz)
        return list(zip(self.phones, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))


@dataclass(frozen=True)
class StoredRenditions:
    """What `write_renditions` wrote: versions by utterance id and name, and what was said about the whole."""

    by_utterance: Mapping[str, Mapping[str, StoredRendition]]
    about: Mapping[str, Any]


def write_renditions(folder: Path, renditions: Sequence[Rendition], about: Mapping[str, Any]) -> None:
    """Write renditions.parquet, a row per utterance and version, and audio/*.flac (16 bits) into a folder.

    `about` (JSON) is what a page says about the whole. The same renditions give the same bytes.
    """
    (folder / AUDIO).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, rendition in enumerate(renditions, start=1):
        stem = file_stem(number, rendition.utterance_id)
        recorded = rendition.recording_durations_frames
        durations = {RECORDING: recorded, RESYNTHESIS: recorded, SYNTHESIS: rendition.synthesis_durations_frames}
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
    """Return what `write_renditions` wrote into a folder; raises PipelineError where the table or a sound is missing."""
    try:
        table = pq.read_table(folder / TABLE)
    except (OSError, pa.ArrowInvalid) as error:
        raise PipelineError(
            f"{folder / TABLE} cannot be read ({error}); `dvc checkout` or `dvc repro evaluate` brings it back"
        ) from None
    if not table.schema.equals(SCHEMA):
        raise PipelineError(
            f"{folder / TABLE} has the columns of another version of this program; `dvc repro -f evaluate` writes it anew"
        )
    found: dict[str, dict[str, StoredRendition]] = {}
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
                f"{stored.audio}: no such file, though {TABLE} names it; `dvc checkout` or `dvc repro evaluate` brings it back"
            )
        found.setdefault(stored.utterance_id, {})[stored.version] = stored
    return StoredRenditions(found, manifests.metadata_of(table))


def has_renditions(folder: Path) -> bool:
    """Return whether an evaluation kept its sounds."""
    return (folder / TABLE).is_file()


def file_stem(number: int, utterance_id: str) -> str:
    """Return a file name, unique by its number, that is safe on every system and in a link."""
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9_-]+', '-', utterance_id)[:60].strip('-')}".rstrip("-")


def write_flac(path: Path, waveform: FloatArray, sample_rate_hz: int) -> FloatArray:
    """Write a waveform (S,) with 16 bits and return what was written: beyond full scale is clipped, not a number is
    silent.
    """
    samples = np.clip(
        np.nan_to_num(np.asarray(waveform, dtype=np.float32), nan=0.0, posinf=1.0, neginf=-1.0), -1.0, 1.0
    )
    if not len(samples):
        samples = np.zeros(1, dtype=np.float32)  # a file without a sample is none that browsers play
    soundfile.write(path, samples, sample_rate_hz, subtype="PCM_16", format="FLAC")
    return samples


def _pitch_hz(samples: FloatArray, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Return the pitch (F,) every PITCH_SECONDS, 0 where unvoiced; nothing for a sound too short to have one."""
    if len(samples) < MIN_SECONDS * sample_rate_hz:
        return np.zeros(0, dtype=np.float32)
    return pitch_track(samples, sample_rate_hz, 1000 * PITCH_SECONDS)[0].astype(np.float32)
