"""Corpus stage: the user's recordings and transcripts become one row per utterance. Sources are only ever read."""

from __future__ import annotations

import argparse
import hashlib
import heapq
import inspect
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from stages.audio import decode as audio
from stages.common import manifests
from stages.common.command import configure_logging, run_command
from stages.common.errors import RowRejected, StageError
from stages.common.files import output_folder
from stages.common.params import load_section
from stages.corpus.describe import Described, describe_all
from stages.corpus.quality import Comparison, QualityParams, check_limits, seconds_per_character
from stages.corpus.recordings import Measuring
from stages.corpus.transcripts import TranscriptLine, read_transcripts, undecodable_bytes
from stages.rows.outcomes import outcome_writer

logger = logging.getLogger(__name__)

DEFAULT_REPORT = Path("reports/corpus.html")


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
    quality: QualityParams = field(default_factory=QualityParams)

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds} must be less than max_seconds {self.max_seconds}")
        if self.default_language not in self.languages:
            raise ValueError(f"default_language {self.default_language!r} is not among languages {self.languages}")
        try:
            re.compile(self.non_speech_pattern)
        except re.error as error:
            raise ValueError(f"non_speech_pattern is not a regular expression: {error}") from None


@dataclass(frozen=True, slots=True)
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


def check_names(recordings: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Return the recordings whose names can be written down, and rejects for those that are not UTF-8."""
    named, rejects = [], []
    for recording in recordings:
        shown = recording.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if shown == recording:
            named.append(recording)
        else:
            rejects.append(manifests.reject(shown, "corpus", "undecodable_name", "the file's name is not UTF-8; rename it"))
    return named, rejects


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


def check_text(line: TranscriptLine, params: CorpusParams) -> str:
    """Return the language of a line; raises RowRejected with the reason its text cannot be learnt from."""
    if not line.text:
        raise RowRejected("empty_text", "the transcript is empty")
    if unreadable := undecodable_bytes(line.text):
        raise RowRejected("undecodable_text", f"byte 0x{unreadable[0]:02X} is not UTF-8; save the transcripts as UTF-8")
    if re.search(params.non_speech_pattern, line.text):
        raise RowRejected("non_speech", f"{line.text!r} matches corpus.non_speech_pattern")
    language = (line.language or params.default_language).upper()
    if language not in params.languages:
        raise RowRejected("unknown_language", f"{language!r} is not among corpus.languages: {', '.join(params.languages)}")
    return language


def manifest_row(candidate: Candidate, language: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest row of one utterance; `duration_deviation` is still open."""
    line, folders = candidate.line, PurePosixPath(candidate.audio_path).parts
    seconds = facts["n_samples"] / facts["sample_rate_hz"]
    return {
        "utterance_id": candidate.utterance_id, "speaker": line.speaker or (folders[0] if len(folders) > 1 else "speaker"),
        "language": language, "text": line.text, "audio_path": candidate.audio_path, "synthetic": line.synthetic,
        "seconds_per_character": seconds_per_character(seconds, line.text), "duration_deviation": None, **facts,
    }  # fmt: skip


def check_row(row: Mapping[str, Any], params: CorpusParams) -> None:
    """Raise RowRejected with the reason a described recording cannot be learnt from."""
    seconds = row["n_samples"] / row["sample_rate_hz"]
    if seconds < params.min_seconds:
        raise RowRejected("too_short", f"{seconds:.2f} s, less than corpus.min_seconds = {params.min_seconds:g}")
    check_limits(row, params.quality)


def select(candidates: Sequence[Candidate], limit: int | None) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Keep at most `limit` utterances, chosen by the hash of their ids, so that the choice is the same everywhere."""
    if limit is None or len(candidates) <= limit:
        return list(candidates), []
    ranked = sorted(candidates, key=lambda candidate: hashlib.sha256(candidate.utterance_id.encode()).digest())
    detail = f"corpus.max_utterances = {limit}"
    left_out = [manifests.reject(candidate.utterance_id, "corpus", manifests.OVER_LIMIT, detail) for candidate in ranked[limit:]]
    return sorted(ranked[:limit], key=lambda candidate: candidate.utterance_id), left_out


@dataclass(frozen=True)
class Judged:
    """An utterance, or a recording without one: its manifest row if it was measured, and why it is rejected if it is (reason, detail)."""

    utterance_id: str
    row: dict[str, Any] | None = None
    rejected: tuple[str, str] | None = None


@dataclass(frozen=True)
class Survey:
    """All of `n_input` utterances by their ids, as often as wanted; none is kept in memory."""

    n_input: int
    unmeasured: Sequence[Judged]
    candidates: Mapping[str, Candidate]
    described: Described
    params: CorpusParams

    def __iter__(self) -> Iterator[Judged]:
        return heapq.merge(self.unmeasured, self._compared(), key=attrgetter("utterance_id"))

    def _measured(self) -> Iterator[Judged]:
        """Yield what was decoded, each judged by itself."""
        for found in self.described:
            if found.rejected:
                yield Judged(found.utterance_id, rejected=found.rejected)
                continue
            candidate = self.candidates[found.utterance_id]
            row = manifest_row(candidate, check_text(candidate.line, self.params), found.facts)
            try:
                check_row(row, self.params)
            except RowRejected as error:
                yield Judged(found.utterance_id, row, (error.reason, error.detail))
            else:
                yield Judged(found.utterance_id, row)

    def _compared(self) -> Iterator[Judged]:
        """Yield the same, judged by comparison with each other as well: the same samples again, unusual lengths."""
        quality, comparison = self.params.quality, Comparison()
        for one in self._measured():
            if one.row and not one.rejected:
                comparison.add(one.row)
        first_of = comparison.first_of_the_same_samples()
        is_first = first_of == np.arange(len(first_of)) if quality.duplicates == "keep_first" else np.ones(len(first_of), dtype=np.bool_)
        deviations = comparison.duration_deviations(is_first)
        repeated = set(first_of[~is_first].tolist())
        firsts: dict[int, dict[str, Any]] = {}
        numbers = count()
        for one in self._measured():
            if not one.row or one.rejected:
                yield one
                continue
            number = next(numbers)
            deviation = None if np.isnan(deviations[number]) else float(deviations[number])
            row = {**one.row, "duration_deviation": deviation}
            if number in repeated:
                firsts[number] = row
            if not is_first[number]:
                first = firsts[int(first_of[number])]
                other = "" if first["text"] == row["text"] else f", whose text is another: {first['text'][:80]!r}"
                yield Judged(one.utterance_id, row, ("duplicate_audio", f"the same samples as {first['utterance_id']}{other}"))
            elif deviation is not None and quality.max_duration_deviation is not None and abs(deviation) > quality.max_duration_deviation:
                detail = (f"{row['seconds_per_character']:.3f} s a character, {deviation:+.1f} standard deviations from what is usual; "
                          f"corpus.quality.max_duration_deviation = {quality.max_duration_deviation:g}")  # fmt: skip
                yield Judged(one.utterance_id, row, ("unlikely_duration", detail))
            else:
                yield Judged(one.utterance_id, row)


@contextmanager
def survey(params: CorpusParams) -> Iterator[Survey]:
    """Find, hash, describe and judge every recording of the folder corpus.recordings, which is only ever read."""
    folder = Path(params.recordings)
    if not folder.is_dir():
        raise StageError(None, folder, "no such folder of recordings; run `make recordings` for the default corpus, "
                         "or set corpus.recordings and corpus.transcripts in params.yaml to your own")  # fmt: skip
    lines = read_transcripts(Path(params.transcripts), params.transcript_format)
    recordings = find_recordings(folder)
    if not recordings:
        raise StageError(None, folder, f"no recordings found; known suffixes: {', '.join(audio.SUFFIXES)}")
    named, rejects = check_names(recordings)
    matched, without_partner = match(lines, named)
    selected, left_out = select(matched, params.max_utterances)
    n_input = len(rejects) + len(without_partner) + len(matched)
    unmeasured = [Judged(row["utterance_id"], rejected=(row["reason"], row["detail"])) for row in (*rejects, *without_partner, *left_out)]
    readable: dict[str, Candidate] = {}
    for candidate in selected:
        try:
            check_text(candidate.line, params)
        except RowRejected as error:
            unmeasured.append(Judged(candidate.utterance_id, rejected=(error.reason, error.detail)))
        else:
            readable[candidate.utterance_id] = candidate
    unmeasured.sort(key=attrgetter("utterance_id"))
    del lines, recordings, named, matched, selected, rejects, without_partner, left_out  # as large as the corpus has clips

    def path_of(utterance_id: str) -> Path:
        return folder / readable[utterance_id].audio_path

    measuring = Measuring(params.max_seconds, params.quality.measure_speech)
    with describe_all("corpus", list(readable), path_of, measuring) as described:
        yield Survey(n_input, unmeasured, readable, described, params)


def main(out: Path, params: CorpusParams) -> None:
    """Find, hash, describe and judge every recording and pair it with its transcript.

    Reads the folder corpus.recordings and the file corpus.transcripts (never writes to either);
    writes corpus.parquet and rejects.parquet. With --report [PAGE] it writes an HTML page about the corpus instead.
    """
    facts = {"recordings": params.recordings, "source_note": params.source_note}
    n_kept, seconds = 0, 0.0
    with (
        output_folder(out) as temporary,
        survey(params) as found,
        outcome_writer(temporary, "corpus", manifests.CORPUS, facts, n_input=found.n_input, max_reject_share=params.max_reject_share) as writer,
    ):
        for one in found:
            if one.rejected:
                writer.reject(one.utterance_id, *one.rejected)
            elif one.row:
                writer.keep(one.row)
                n_kept += 1
                seconds += one.row["n_samples"] / one.row["sample_rate_hz"]
    logger.info("corpus: %d utterances, %.1f minutes kept, %d rejected", n_kept, seconds / 60, found.n_input - n_kept)


def report(page: Path, params: CorpusParams) -> None:
    """Write a page about the corpus: distributions, rejects by reason, extremes. Neither the sources nor the stage's output are touched."""
    from stages.corpus.report import CorpusFacts, write_report  # only now: matplotlib takes its time

    if page.resolve().is_relative_to(Path(params.recordings).resolve()):
        raise StageError(None, page, "lies among the recordings, where nothing is ever written; name another page")
    with survey(params) as found:
        judged = list(found)
    kept = [one.row for one in judged if one.row and not one.rejected]
    set_aside = [one.row for one in judged if one.row and one.rejected]
    rejects = [manifests.reject(one.utterance_id, "corpus", *one.rejected) for one in judged if one.rejected]
    facts = {"Recordings": params.recordings, "Transcripts": params.transcripts, "Source": params.source_note}
    written = write_report(page, kept, set_aside, rejects, CorpusFacts(facts, params.quality, params.max_reject_share))
    logger.info("corpus report: %s", written.resolve())


def report_from_command_line() -> bool:
    """Write the report if the command line asks for it, and return whether it did."""
    parser = argparse.ArgumentParser(prog="python -m stages.corpus", description=inspect.getdoc(report), add_help=False, allow_abbrev=False)
    parser.add_argument("--report", nargs="?", type=Path, const=DEFAULT_REPORT, metavar="PAGE",
                        help=f"an HTML file, or a folder for its index.html (default: {DEFAULT_REPORT})")  # fmt: skip
    if parser.parse_known_args()[0].report is None:
        return False
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="PATH")
    parser.add_argument("--help", "-h", action="help")
    arguments = parser.parse_args()
    configure_logging()
    run_command(lambda: report(arguments.report, load_section(arguments.params, "corpus", CorpusParams)), "corpus report")
    return True
