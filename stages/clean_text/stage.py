"""Text cleaning stage: transcripts become normalised text, phones, tones and phones per word."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from model.printable import printable
from model.settings import Settings, Share
from model.text.errors import TextError, character_name
from model.text.lexicon import Lexicon, read_lexicon
from model.text.reading import Reading, lexicon_entries, read_text, read_with_lexicon
from model.text.registry import front_end_packages
from stages.common import manifests
from stages.common.code_graph import code_version
from stages.common.command import run_command
from stages.common.errors import PipelineError, RowRejected
from stages.common.files import content_key, output_folder
from stages.common.manifests import ManifestRows
from stages.reporting.terminal import columns
from stages.rows.engine import FinishedRow, FinishedRows, Row, RowResult, compute_each, fixed_chunks, run_rows
from stages.rows.outcomes import outcome_writer

MODULE = "stages.clean_text.stage"
CHUNK_ROWS = 256
MAX_LISTED = 8  # unreadable characters listed in one message
Entries = tuple[tuple[str, str, str], ...]  # (language, word, reading), sorted


@dataclass(frozen=True)
class CleanTextParams(Settings):
    """What becomes of characters that nobody can read: the text is rejected, or spoken without them.

    `max_reject_share` is the share of utterances whose text may be unreadable before the run stops.
    """

    unreadable: Literal["reject", "drop"]
    max_reject_share: Share


@dataclass(frozen=True)
class Transcript:
    """One transcript with everything that its reading depends on."""

    language: str
    text: str
    drop_unreadable: bool = False
    entries: Entries = ()


def process(transcript: Transcript) -> RowResult:
    """Return (facts, b"") of one transcript; raises RowRejected with the front end's reason."""
    language, entries = transcript.language, defaultdict[str, dict[str, str]](dict)
    for entry_language, word, pronunciation in transcript.entries:
        entries[entry_language][word] = pronunciation
    try:
        reading = read_text(transcript.text, language, entries, drop_unreadable=transcript.drop_unreadable)
    except TextError as error:
        raise RowRejected(error.reason_code, _detail(error)) from None
    return facts_of(language, reading), b""


def _detail(error: TextError) -> str:
    """Return the detail of an error, with the other unreadable characters of the text."""
    others = error.characters[1 : 1 + MAX_LISTED]
    return f"{error.detail}; also {', '.join(map(character_name, others))}" if others else error.detail


def facts_of(language: str, reading: Reading) -> dict[str, Any]:
    """Return a reading as columns of the manifest."""
    sequence = reading.sequence
    return {
        "language": language,
        "normalised": reading.normalised,
        "words": list(sequence.words),
        "word_starts": [start for start, _ in sequence.word_spans],
        "word_ends": [end for _, end in sequence.word_spans],
        "word_languages": list(sequence.languages),
        "phones": list(sequence.phones),
        "tones": list(sequence.tones),
        "word2ph": list(sequence.word2ph),
        "note": reading.note,
    }


def compute(rows: Sequence[Row]) -> list[RowResult]:
    """Clean a chunk of rows."""
    return compute_each(process, rows)


@dataclass(frozen=True)
class Transcripts:
    """The corpus's transcripts, row by row; the versions of a language's front-end packages are part of a row's key."""

    utterances: ManifestRows
    drop_unreadable: bool

    def read(self) -> Iterator[tuple[str, Transcript]]:
        """Yield (utterance id, transcript)."""
        for row in self.utterances.read("utterance_id", "language", "text"):
            yield row["utterance_id"], Transcript(row["language"], row["text"], self.drop_unreadable)

    def rows(self) -> Iterator[Row]:
        """Yield a row per transcript, read without a lexicon."""
        for utterance_id, transcript in self.read():
            yield make_row(utterance_id, transcript)

    def with_entries(self, plain: FinishedRows, lexicon: Lexicon) -> Iterator[Row]:
        """Yield a row, with its entries, per transcript that contains lexicon entries as written or as normalised."""
        for (utterance_id, transcript), read in zip(self.read(), plain, strict=True):
            languages = {transcript.language, *read.facts.get("word_languages", ())}
            entries = lexicon_entries(lexicon, languages, transcript.text, read.facts.get("normalised", ""))
            if entries:
                flat = sorted((language, *entry) for language, words in entries.items() for entry in words.items())
                yield make_row(utterance_id, replace(transcript, entries=tuple(flat)))


def make_row(utterance_id: str, transcript: Transcript) -> Row:
    """Return a transcript's row; of the lexicon, only the entries that occur in it are part of the key."""
    language, text = transcript.language, transcript.text
    settings = [transcript.drop_unreadable, transcript.entries, _versions(language), code_version(MODULE)]
    return Row(utterance_id, content_key("clean_text", language, text, *settings), transcript)


def main(corpus: Path, lexicon: Path, out: Path, params: CleanTextParams) -> None:
    """Normalise every transcript and turn it into phones.

    Reads corpus.parquet and the lexicon (tab-separated: language, word, reading), which overrides the front ends;
    writes clean_text.parquet and rejects.parquet.

    To see how one text is read, without a corpus:
      python -m stages.clean_text --explain "TEXT" --language ZH [--lexicon lexicon.tsv]
    """
    readings = _read_lexicon(lexicon)
    utterances = manifests.open_manifest(corpus / "corpus.parquet", manifests.CORPUS)
    transcripts = Transcripts(utterances, params.unreadable == "drop")
    facts = {"lexicon": readings, "unreadable": params.unreadable}
    run = partial(
        run_rows, "clean_text", compute_chunk=compute, folder=None, chunks=partial(fixed_chunks, size=CHUNK_ROWS)
    )
    with (
        output_folder(out) as temporary,
        run(transcripts.rows) as plain,
        run(partial(transcripts.with_entries, plain, readings)) if readings else nullcontext(()) as with_entries,
        outcome_writer(
            temporary,
            "clean_text",
            manifests.CLEAN_TEXT,
            facts,
            n_input=utterances.n_rows,
            max_reject_share=params.max_reject_share,
        ) as writer,
    ):
        for row in with_replacements(plain, with_entries):
            if row.rejected:
                writer.reject(row.utterance_id, *row.rejected)
            else:
                writer.keep({"utterance_id": row.utterance_id, **row.facts})


def with_replacements(rows: Iterable[FinishedRow], replacements: Iterable[FinishedRow]) -> Iterator[FinishedRow]:
    """Yield rows, or the replacement of the same utterance if there is one; both are in the same order."""
    remaining = iter(replacements)
    replacement = next(remaining, None)
    for row in rows:
        if replacement is not None and row.utterance_id == replacement.utterance_id:
            yield replacement
            replacement = next(remaining, None)
        else:
            yield row


@lru_cache(maxsize=8)
def _versions(language: str) -> tuple[str, ...]:
    try:
        return tuple(f"{name} {version(name)}" for name in front_end_packages(language))
    except TextError:  # no front end for the language: its rows are rejected
        return ()


def _read_lexicon(path: Path) -> dict[str, dict[str, str]]:
    try:
        return read_lexicon(path)
    except TextError as error:
        raise PipelineError(f"clean_text: {error.detail}") from None


def explain(text: str, language: str, lexicon: Path | None) -> str:
    """Return how a text is read, for a person who checks it: the text as spoken, then a line for each word.

    Raises PipelineError for a text or a lexicon that cannot be read.
    """
    readings = _read_lexicon(lexicon) if lexicon else {}
    try:
        reading = read_with_lexicon(text, language, readings)
    except TextError as error:
        raise PipelineError(f"{error.reason_code}: {_detail(error)}") from None
    sequence = reading.sequence
    lines = [("word", "language", "phones", "tones", "word2ph")]
    start = 0
    for word, code, count in zip(sequence.words, sequence.languages, sequence.word2ph, strict=True):
        tones = " ".join(map(str, sequence.tones[start : start + count]))
        lines.append((word, code, " ".join(sequence.phones[start : start + count]), tones, str(count)))
        start += count
    return f"{reading.normalised}\n\n{columns(lines)}\n"


def explain_main(argv: Sequence[str] | None = None) -> None:
    """Print how a text is read: normalised, then word by word."""
    parser = argparse.ArgumentParser(prog="voice-factory explain", description=explain_main.__doc__)
    parser.add_argument("text", metavar="TEXT")
    parser.add_argument("--language", required=True, metavar="CODE", help="language of the text: EN, ZH or JP")
    parser.add_argument("--lexicon", type=Path, metavar="PATH", help="pronunciations, as in lexicon.tsv")
    arguments = parser.parse_args(argv)
    run_command(lambda: _write(explain(arguments.text, arguments.language, arguments.lexicon)), "clean_text")


def explain_from_command_line() -> bool:
    """Run `explain_main` if the command line has `--explain TEXT`, and return whether it did."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--explain")
    asked, others = parser.parse_known_args()
    if asked.explain is None:
        return False
    explain_main([*others, "--", asked.explain])
    return True


def _write(text: str) -> None:
    sys.stdout.buffer.write(printable(text).encode(sys.stdout.encoding, errors="backslashreplace"))
