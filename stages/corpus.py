"""Corpus stage: the user's recordings and transcripts become one row per utterance. Sources are only ever read."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from stages.common import audio, manifests
from stages.common.errors import RowRejected, StageError
from stages.common.executors import map_unordered
from stages.common.files import output_folder
from stages.common.outcomes import outcome_writer
from stages.common.progress import progress_bar
from stages.common.stage import run_stage
from stages.common.transcripts import TranscriptLine, read_transcripts, undecodable_bytes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusParams:
    """`recordings` is a folder of ``speaker/*.wav`` (any format, rate and channel count), `transcripts` its text."""

    recordings: str
    transcripts: str
    transcript_format: Literal["auto", "table", "bert_vits2", "ljspeech"]
    default_language: str
    languages: tuple[str, ...]
    non_speech_pattern: str
    min_seconds: float
    max_seconds: float
    max_utterances: int | None
    max_reject_share: float
    source_note: str

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds} must be less than max_seconds {self.max_seconds}")
        if self.default_language not in self.languages:
            raise ValueError(f"default_language {self.default_language!r} is not among languages {self.languages}")
        try:
            re.compile(self.non_speech_pattern)
        except re.error as error:
            raise ValueError(f"non_speech_pattern is not a regular expression: {error}") from None


@dataclass(frozen=True)
class Candidate:
    """A transcript line matched to its recording."""

    utterance_id: str
    line: TranscriptLine
    audio_path: str


def find_recordings(folder: Path) -> list[str]:
    """Return every audio file under `folder` as a relative POSIX path, sorted; linked folders are followed once."""
    found: list[str] = []
    visited = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        relative = Path(parent).relative_to(folder)
        found.extend((relative / name).as_posix() for name in files if Path(name).suffix.lower() in audio.SUFFIXES)
    return sorted(found)


def match(
    lines: Sequence[TranscriptLine], recordings: Sequence[str]
) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Pair transcript lines with recordings; what has no partner, or a second claim to one, is rejected.

    A line may name its recording as it lies under the folder, with or without suffix, below leading folders that
    exist elsewhere (``raw/anna/1.wav``), or inside a folder named after its speaker.
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
    rejects += [manifests.reject(path, "corpus", "missing_transcript", detail) for path in recordings if path not in used]
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


def inspect_row(candidate: Candidate, recordings: str, params: CorpusParams) -> dict[str, Any]:
    """Return the manifest row of one utterance; raises RowRejected with the reason it cannot be learnt from."""
    line = candidate.line
    if not line.text:
        raise RowRejected("empty_text", "the transcript is empty")
    if unreadable := undecodable_bytes(line.text):
        raise RowRejected("undecodable_text", f"byte 0x{unreadable[0]:02X} is not UTF-8; save the transcripts as UTF-8")
    if re.search(params.non_speech_pattern, line.text):
        raise RowRejected("non_speech", f"{line.text!r} matches corpus.non_speech_pattern")
    language = (line.language or params.default_language).upper()
    if language not in params.languages:
        raise RowRejected("unknown_language", f"{language!r} is not among corpus.languages: {', '.join(params.languages)}")
    path = Path(recordings) / candidate.audio_path
    data, sha256 = audio.read_bytes(path)
    recording = audio.decode(data, path.suffix)
    n_samples, n_channels = recording.samples.shape
    seconds = n_samples / recording.sample_rate_hz
    if seconds < params.min_seconds:
        raise RowRejected("too_short", f"{seconds:.2f} s, less than corpus.min_seconds = {params.min_seconds:g}")
    if seconds > params.max_seconds:
        raise RowRejected("too_long", f"{seconds:.2f} s, more than corpus.max_seconds = {params.max_seconds:g}")
    if not recording.samples.any():
        raise RowRejected("silent_audio", "every sample is zero")
    parent = PurePosixPath(candidate.audio_path).parts
    return {
        "utterance_id": candidate.utterance_id, "speaker": line.speaker or (parent[0] if len(parent) > 1 else "speaker"),
        "language": language, "text": line.text, "audio_path": candidate.audio_path, "audio_sha256": sha256,
        "container": recording.container, "sample_rate_hz": recording.sample_rate_hz, "n_channels": n_channels,
        "n_samples": n_samples, "synthetic": line.synthetic,
    }  # fmt: skip


@dataclass(frozen=True)
class Inspector:
    """Picklable form of `inspect_row` for worker processes: a row, or a reject."""

    recordings: str
    params: CorpusParams

    def __call__(self, candidate: Candidate) -> dict[str, Any]:
        try:
            return inspect_row(candidate, self.recordings, self.params)
        except RowRejected as error:
            return manifests.reject(candidate.utterance_id, "corpus", error.reason, error.detail)


def select(candidates: Sequence[Candidate], limit: int | None) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Keep at most `limit` utterances, chosen by the hash of their ids, so that the choice is the same everywhere."""
    if limit is None or len(candidates) <= limit:
        return list(candidates), []
    ranked = sorted(candidates, key=lambda candidate: hashlib.sha256(candidate.utterance_id.encode()).digest())
    detail = f"corpus.max_utterances = {limit}"
    left_out = [manifests.reject(candidate.utterance_id, "corpus", manifests.OVER_LIMIT, detail) for candidate in ranked[limit:]]
    return sorted(ranked[:limit], key=lambda candidate: candidate.utterance_id), left_out


def main(out: Path, params: CorpusParams) -> None:
    """Find, hash and describe every recording and pair it with its transcript.

    Reads the folder corpus.recordings and the file corpus.transcripts (never writes to either);
    writes corpus.parquet and rejects.parquet.
    """
    folder = Path(params.recordings)
    if not folder.is_dir():
        raise StageError(None, folder, "no such folder of recordings; run `make recordings` for the default corpus, "
                         "or set corpus.recordings and corpus.transcripts in params.yaml to your own")  # fmt: skip
    lines = read_transcripts(Path(params.transcripts), params.transcript_format)
    recordings = find_recordings(folder)
    if not recordings:
        raise StageError(None, folder, f"no recordings found; known suffixes: {', '.join(audio.SUFFIXES)}")
    candidates, rejects = match(lines, recordings)
    selected, left_out = select(candidates, params.max_utterances)
    n_input = len(rejects) + len(candidates)
    rejects += left_out
    kept: list[dict[str, Any]] = []
    with progress_bar("corpus", len(selected), "utterance") as bar:
        for row in map_unordered(Inspector(params.recordings, params), selected):
            (rejects if "reason" in row else kept).append(row)
            bar.update(1)
    facts = {"recordings": params.recordings, "source_note": params.source_note}
    with (
        output_folder(out) as temporary,
        outcome_writer(temporary, "corpus", manifests.CORPUS, facts, n_input=n_input, max_reject_share=params.max_reject_share) as writer,
    ):
        for row in sorted(kept, key=itemgetter("utterance_id")):
            writer.keep(row)
        for row in sorted(rejects, key=itemgetter("utterance_id")):
            writer.reject(row["utterance_id"], row["reason"], row["detail"])
    minutes = sum(row["n_samples"] / row["sample_rate_hz"] for row in kept) / 60
    logger.info("corpus: %d utterances, %.1f minutes kept, %d rejected", len(kept), minutes, len(rejects))


if __name__ == "__main__":
    run_stage(main, CorpusParams, "corpus")
