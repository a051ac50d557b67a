"""Survey of the corpus: every candidate measured, then kept or rejected."""

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
from stages.corpus.describe import Described, describe_all
from stages.corpus.matching import Candidate, check_names, find_recordings, match, select
from stages.corpus.params import CorpusParams
from stages.corpus.quality import Comparison, check_limits, seconds_per_character
from stages.corpus.recordings import Measuring
from stages.corpus.transcripts import TranscriptLine, read_transcripts, undecodable_bytes


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
        raise RowRejected(
            "unknown_language", f"{language!r} is not among corpus.languages: {', '.join(params.languages)}"
        )
    return language


def manifest_row(candidate: Candidate, language: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest row of one utterance; `duration_deviation` is still open."""
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
    """Raise RowRejected with the reason a described recording cannot be learnt from."""
    seconds = row["n_samples"] / row["sample_rate_hz"]
    if seconds < params.min_seconds:
        raise RowRejected("too_short", f"{seconds:.2f} s, less than corpus.min_seconds = {params.min_seconds:g}")
    check_limits(row, params.quality)


@dataclass(frozen=True)
class Judged:
    """An utterance, or a recording without one: its manifest row if it was measured, and why it is rejected if it is
    (reason, detail).
    """

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
        is_first = (
            first_of == np.arange(len(first_of))
            if quality.duplicates == "keep_first"
            else np.ones(len(first_of), dtype=np.bool_)
        )
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
                yield Judged(
                    one.utterance_id, row, ("duplicate_audio", f"the same samples as {first['utterance_id']}{other}")
                )
            elif (
                deviation is not None
                and quality.max_duration_deviation is not None
                and abs(deviation) > quality.max_duration_deviation
            ):
                detail = (
                    f"{row['seconds_per_character']:.3f} s a character, {deviation:+.1f} standard deviations from what is usual; "
                    f"corpus.quality.max_duration_deviation = {quality.max_duration_deviation:g}"
                )
                yield Judged(one.utterance_id, row, ("unlikely_duration", detail))
            else:
                yield Judged(one.utterance_id, row)


@contextmanager
def survey(params: CorpusParams) -> Iterator[Survey]:
    """Find, hash, describe and judge every recording of the folder corpus.recordings, which is only ever read."""
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
    named, rejects = check_names(recordings)
    matched, without_partner = match(lines, named)
    selected, left_out = select(matched, params.max_utterances)
    n_input = len(rejects) + len(without_partner) + len(matched)
    unmeasured = [
        Judged(row["utterance_id"], rejected=(row["reason"], row["detail"]))
        for row in (*rejects, *without_partner, *left_out)
    ]
    readable: dict[str, Candidate] = {}
    for candidate in selected:
        try:
            check_text(candidate.line, params)
        except RowRejected as error:
            unmeasured.append(Judged(candidate.utterance_id, rejected=(error.reason, error.detail)))
        else:
            readable[candidate.utterance_id] = candidate
    unmeasured.sort(key=attrgetter("utterance_id"))
    del (
        lines,
        recordings,
        named,
        matched,
        selected,
        rejects,
        without_partner,
        left_out,
    )  # as large as the corpus has clips

    def path_of(utterance_id: str) -> Path:
        return folder / readable[utterance_id].audio_path

    measuring = Measuring(params.max_seconds, params.quality.measure_speech)
    with describe_all("corpus", list(readable), path_of, measuring) as described:
        yield Survey(n_input, unmeasured, readable, described, params)
