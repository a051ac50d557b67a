"""Match recordings with transcripts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.audio import decode as audio
from stages.common import manifests
from stages.corpus.transcripts import TranscriptLine


@dataclass(frozen=True, slots=True)
class Candidate:
    """A transcript line matched to its recording."""

    utterance_id: str
    line: TranscriptLine
    audio_path: str


def find_recordings(folder: Path) -> list[str]:
    """Return every audio file under `folder` as a relative POSIX path, sorted; each linked folder is visited once."""
    recordings: list[str] = []
    visited = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        relative = Path(parent).relative_to(folder)
        recordings.extend((relative / name).as_posix() for name in files if Path(name).suffix.lower() in audio.SUFFIXES)
    return sorted(recordings)


def check_names(recordings: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Return the recordings with valid UTF-8 names, and rejects for the others."""
    named, rejects = [], []
    for recording in recordings:
        shown = recording.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if shown == recording:
            named.append(recording)
        else:
            rejects.append(
                manifests.reject(shown, "corpus", "undecodable_name", "the file's name is not UTF-8; rename it")
            )
    return named, rejects


def match(lines: Sequence[TranscriptLine], recordings: Sequence[str]) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Pair transcript lines with recordings; reject those without a counterpart and second lines for a recording.

    A line may name its recording relative to the folder of recordings or relative to its speaker's folder, with or
    without suffix, and after leading folders that do not exist there (``raw/anna/1.wav``).
    """
    by_name: dict[str, str] = {}
    for recording in recordings:
        by_name[recording] = recording
    for recording in recordings:
        by_name.setdefault(str(PurePosixPath(recording).with_suffix("")), recording)
    candidates: dict[str, Candidate] = {}
    rejects, used = [], set()
    for line in lines:
        if (path := _find(line, by_name)) is None:
            rejects.append(manifests.reject(line.audio, "corpus", "missing_audio", f"no recording for {line.audio!r}"))
            continue
        utterance_id = str(PurePosixPath(path).with_suffix(""))
        used.add(path)
        if utterance_id in candidates:
            detail = f"{line.audio!r} again, or another file of the same name"
            rejects.append(manifests.reject(utterance_id, "corpus", "duplicate_utterance", detail))
        else:
            candidates[utterance_id] = Candidate(utterance_id, line, path)
    detail = "no transcript names this recording"
    rejects += [
        manifests.reject(path, "corpus", "missing_transcript", detail) for path in recordings if path not in used
    ]
    return [candidates[key] for key in sorted(candidates)], rejects


def _find(line: TranscriptLine, by_name: dict[str, str]) -> str | None:
    parts = [part for part in line.audio.replace("\\", "/").split("/") if part not in ("", ".")]
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        for candidate in (name, f"{line.speaker}/{name}"):
            if candidate in by_name:
                return by_name[candidate]
            stem = str(PurePosixPath(candidate).with_suffix(""))
            if PurePosixPath(candidate).suffix.lower() in audio.SUFFIXES and stem in by_name:
                return by_name[stem]
    return None


def limit_utterances(
    candidates: Sequence[Candidate], limit: int | None
) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Return at most `limit` utterances, those with the smallest hashes of their ids, and rejects for the others."""
    if limit is None or len(candidates) <= limit:
        return list(candidates), []
    ranked = sorted(candidates, key=lambda candidate: hashlib.sha256(candidate.utterance_id.encode()).digest())
    detail = f"corpus.max_utterances = {limit}"
    rejects = [
        manifests.reject(candidate.utterance_id, "corpus", manifests.OVER_LIMIT, detail) for candidate in ranked[limit:]
    ]
    return sorted(ranked[:limit], key=lambda candidate: candidate.utterance_id), rejects
