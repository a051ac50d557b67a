"""Scan of the corpus: every recording is measured, then kept or rejected."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stages.audio import decode as audio
from stages.common.errors import RowRejected, StageError
from stages.corpus.describe import DescribedRecordings, describe_recordings
from stages.corpus.matching import Candidate, check_names, find_recordings, limit_utterances, match
from stages.corpus.params import CorpusParams
from stages.corpus.quality import CorpusStatistics, check_limits, seconds_per_character
from stages.corpus.recordings import MeasureSettings
from stages.corpus.transcripts import TranscriptLine, read_transcripts, undecodable_bytes


def check_text(line: TranscriptLine, params: CorpusParams) -> str:
    """Return the language of a line; raises RowRejected if its text cannot be used for training."""
    if not line.text:
        raise RowRejected("empty_text", "the transcript is empty")
    if unreadable := undecodable_bytes(line.text):
        raise RowRejected("undecodable_text", f"byte 0x{unreadable[0]:02X} is not UTF-8; save the transcripts as UTF-8")
    if re.search(params.non_speech_pattern, line.text):
        raise RowRejected("non_speech", f"{line.text!r} matches corpus.non_speech_pattern")
    language = (line.language or params.default_language).upper()
    if language not in params.languages:
        raise RowRejected(
            "unknown_language", f"{language!r} is not among corpus.languages: {', '.join(params.languages)}"
        )
    return language


def manifest_row(candidate: Candidate, language: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest row of one utterance; `duration_deviation` is None until all rows are compared."""
    line, folders = candidate.line, PurePosixPath(candidate.audio_path).parts
    seconds = facts["n_samples"] / facts["sample_rate_hz"]
    return {
        "utterance_id": candidate.utterance_id,
        "speaker": line.speaker or (folders[0] if len(folders) > 1 else "speaker"),
        "language": language,
        "text": line.text,
        "audio_path": candidate.audio_path,
        "synthetic": line.synthetic,
        "seconds_per_character": seconds_per_character(seconds, line.text),
        "duration_deviation": None,
        **facts,
    }


def check_row(row: Mapping[str, Any], params: CorpusParams) -> None:
    """Raise RowRejected if a measured recording is too short or exceeds a limit of corpus.quality."""
    seconds = row["n_samples"] / row["sample_rate_hz"]
    if seconds < params.min_seconds:
        raise RowRejected("too_short", f"{seconds:.2f} s, less than corpus.min_seconds = {params.min_seconds:g}")
    check_limits(row, params.quality)


@dataclass(frozen=True)
class ScannedUtterance:
    """Result for an utterance, or for a recording or transcript line without a counterpart.

    `row` is its manifest row if it was measured; `rejected` is (reason, detail) if it is rejected.
    """

    utterance_id: str
    row: dict[str, Any] | None = None
    rejected: tuple[str, str] | None = None


@dataclass(frozen=True)
class CorpusScan:
    """All `n_input` utterances in the order of their ids. Iterable repeatedly; no row is kept in memory."""

    n_input: int
    unmeasured: Sequence[ScannedUtterance]
    candidates: Mapping[str, Candidate]
    recordings: DescribedRecordings
    params: CorpusParams

    def __iter__(self) -> Iterator[ScannedUtterance]:
        return heapq.merge(self.unmeasured, self._compared(), key=attrgetter("utterance_id"))

    def _measured(self) -> Iterator[ScannedUtterance]:
        """Yield the candidates, each checked on its own."""
        for recording in self.recordings:
            if recording.rejected:
                yield ScannedUtterance(recording.utterance_id, rejected=recording.rejected)
                continue
            candidate = self.candidates[recording.utterance_id]
            row = manifest_row(candidate, check_text(candidate.line, self.params), recording.facts)
            rejected = None
            try:
                check_row(row, self.params)
            except RowRejected as error:
                rejected = error.reason, error.detail
            yield ScannedUtterance(recording.utterance_id, row, rejected)

    def _compared(self) -> Iterator[ScannedUtterance]:
        """Yield the candidates, checked against each other as well: repeated samples and unusual durations."""
        quality, statistics = self.params.quality, CorpusStatistics()
        for utterance in self._measured():
            if utterance.row and not utterance.rejected:
                statistics.add(utterance.row)
        first_of = statistics.first_with_same_samples()
        is_duplicate = first_of != np.arange(len(first_of))
        if quality.duplicates == "keep":
            is_duplicate[:] = False
        deviations = statistics.duration_deviations(~is_duplicate)
        with_duplicates = set(first_of[is_duplicate].tolist())
        originals: dict[int, dict[str, Any]] = {}
        numbers = count()
        for utterance in self._measured():
            if not utterance.row or utterance.rejected:
                yield utterance
                continue
            number = next(numbers)
            deviation = None if np.isnan(deviations[number]) else float(deviations[number])
            row = {**utterance.row, "duration_deviation": deviation}
            if number in with_duplicates:
                originals[number] = row
            rejected = (
                _duplicate_audio(row, originals[int(first_of[number])])
                if is_duplicate[number]
                else _unlikely_duration(row, quality.max_duration_deviation)
            )
            yield ScannedUtterance(utterance.utterance_id, row, rejected)


def _duplicate_audio(row: Mapping[str, Any], original: Mapping[str, Any]) -> tuple[str, str]:
    other = "" if original["text"] == row["text"] else f", whose text is different: {original['text'][:80]!r}"
    return "duplicate_audio", f"the same samples as {original['utterance_id']}{other}"


def _unlikely_duration(row: Mapping[str, Any], limit: float | None) -> tuple[str, str] | None:
    deviation = row["duration_deviation"]
    if limit is None or deviation is None or abs(deviation) <= limit:
        return None
    return "unlikely_duration", (
        f"{row['seconds_per_character']:.3f} s a character, {deviation:+.1f} standard deviations from what is usual; "
        f"corpus.quality.max_duration_deviation = {limit:g}"
    )


@contextmanager
def scan_corpus(params: CorpusParams) -> Iterator[CorpusScan]:
    """Find, hash, measure and check every recording of the folder corpus.recordings, which is never written to."""
    n_input, unmeasured, candidates = _match_sources(params)
    folder = Path(params.recordings)

    def path_of(utterance_id: str) -> Path:
        return folder / candidates[utterance_id].audio_path

    settings = MeasureSettings(params.max_seconds, params.quality.measure_speech)
    with describe_recordings("corpus", list(candidates), path_of, settings) as recordings:
        yield CorpusScan(n_input, unmeasured, candidates, recordings, params)


def _match_sources(params: CorpusParams) -> tuple[int, list[ScannedUtterance], dict[str, Candidate]]:
    """Return the number of utterances, those rejected without being measured, and the others by their ids."""
    folder = Path(params.recordings)
    if not folder.is_dir():
        raise StageError(
            None,
            folder,
            "no such folder of recordings; run `make recordings` for the default corpus, "
            "or set corpus.recordings and corpus.transcripts in params.yaml to your own",
        )
    lines = read_transcripts(Path(params.transcripts), params.transcript_format)
    recordings = find_recordings(folder)
    if not recordings:
        raise StageError(None, folder, f"no recordings found; known suffixes: {', '.join(audio.SUFFIXES)}")
    named, undecodable = check_names(recordings)
    matched, unmatched = match(lines, named)
    selected, over_limit = limit_utterances(matched, params.max_utterances)
    unmeasured = [
        ScannedUtterance(row["utterance_id"], rejected=(row["reason"], row["detail"]))
        for row in (*undecodable, *unmatched, *over_limit)
    ]
    candidates = {}
    for candidate in selected:
        try:
            check_text(candidate.line, params)
        except RowRejected as error:
            unmeasured.append(ScannedUtterance(candidate.utterance_id, rejected=(error.reason, error.detail)))
        else:
            candidates[candidate.utterance_id] = candidate
    unmeasured.sort(key=attrgetter("utterance_id"))
    return len(undecodable) + len(unmatched) + len(matched), unmeasured, candidates
