"""User lexicon: a tab-separated file of readings that override every front end.

Columns: language, word, reading. Readings use the notation of the language's front end (`get_front_end`) and are not
normalised. Lines that begin with # are comments.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from model.text.errors import ReasonCode, TextError
from model.text.registry import available_languages, get_front_end

HEADER: Final = ("language", "word", "reading")

Lexicon = Mapping[str, Mapping[str, str]]  # language → word → reading


@dataclass(frozen=True)
class _Entry:
    line: int
    language: str
    word: str
    reading: str


def read_lexicon(path: Path) -> dict[str, dict[str, str]]:
    """Return the file's readings by language and word, checked by the front ends.

    Raises TextError invalid_lexicon, which names the file, the line and the remedy.
    """
    first_lines: dict[tuple[str, str], int] = {}
    entries = list(_entries(path))
    for entry in entries:
        earlier = first_lines.setdefault((entry.language, fold_case(entry.word)), entry.line)
        if earlier != entry.line:
            raise _problem(
                path, entry.line, f"{entry.word!r} has a reading in line {earlier} already; keep one of them"
            )
    lexicon: dict[str, dict[str, str]] = {}
    for entry in entries:
        lexicon.setdefault(entry.language, {})[entry.word] = entry.reading
    for language, words in lexicon.items():
        try:
            get_front_end(language, words)
        except TextError as error:
            raise _first_invalid(path, [entry for entry in entries if entry.language == language], error) from None
    return lexicon


def entries_in(lexicon: Lexicon, *texts: str) -> dict[str, dict[str, str]]:
    """Return the readings whose word occurs in any of the texts, ignoring case. Languages without such a word are left
    out.

    Substrings count: "tomatoes" and "多重庆幸" may depend on the readings of "tomato" and "重庆".
    """
    haystack = "\n".join(map(fold_case, texts))
    matching = {
        language: {word: reading for word, reading in words.items() if fold_case(word) in haystack}
        for language, words in lexicon.items()
    }
    return {language: words for language, words in matching.items() if words}


@lru_cache(maxsize=65536)
def fold_case(text: str) -> str:
    """Return a text in the form in which words are compared: NFKC, case-folded."""
    return unicodedata.normalize("NFKC", text).casefold()


def _entries(path: Path) -> Iterator[_Entry]:
    """Yield the lines that hold a reading, after checking the header, the number of fields and the language."""
    header_seen = False
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = tuple(unicodedata.normalize("NFC", part.strip()) for part in line.split("\t"))
        if not header_seen:
            if fields != HEADER:
                raise _problem(
                    path,
                    number,
                    f"expected the header {'<tab>'.join(HEADER)}, found {line[:80]!r}; put it before the readings",
                )
            header_seen = True
            continue
        if len(fields) != len(HEADER) or not all(fields):
            raise _problem(
                path, number, f"expected {'<tab>'.join(HEADER)}, found {line[:80]!r}; separate three fields with tabs"
            )
        if fields[0] not in available_languages():
            raise _problem(
                path, number, f"unknown language {fields[0]!r}; use one of {', '.join(available_languages())}"
            )
        yield _Entry(number, *fields)
    if not header_seen:
        raise TextError(
            ReasonCode.INVALID_LEXICON, f"{path}: no header; begin the file with the line {'<tab>'.join(HEADER)}"
        )


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        remedy = f"a lexicon without readings holds the line {'<tab>'.join(HEADER)}"
        raise TextError(ReasonCode.INVALID_LEXICON, f"{path}: {error.strerror or error}; {remedy}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise _problem(path, line, "not UTF-8; save the file as UTF-8") from None


def _first_invalid(path: Path, entries: list[_Entry], error: TextError) -> TextError:
    """Return the error of the first entry that its front end rejects on its own."""
    for entry in entries:
        try:
            get_front_end(entry.language, {entry.word: entry.reading})
        except TextError as alone:
            return _problem(path, entry.line, f"{alone.detail}; correct or remove the line")
    return error


def _problem(path: Path, line: int, detail: str) -> TextError:
    return TextError(ReasonCode.INVALID_LEXICON, f"{path}:{line}: {detail}")
