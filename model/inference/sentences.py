"""Splitting of long texts into sentences, and of long sentences into parts, for synthesis."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from model.text.english.abbreviations import abbreviation_spans

PARAGRAPH_PAUSE_SECONDS: Final = 0.5
SENTENCE_PAUSE_SECONDS: Final = 0.2
# Maximum characters per piece: about as much speech as a training utterance holds.
LIMITS: Final = {"EN": 240, "ZH": 80, "JP": 100}

_PARAGRAPH: Final = re.compile(r"\n[^\S\n]*\n\s*")
_CLOSERS: Final = r"[\"'”’»)\]」』）】〉》]*"
_END: Final = re.compile(
    rf"(?P<marks>[.!?…]+)(?P<closers>{_CLOSERS})(?=\s)|(?P<wide_marks>[。．！？｡!?…]+)(?P<wide_closers>{_CLOSERS})"
)
# The sentence around a quotation continues after the quotation's full stop: "「はい。」と言った。"
_CONTINUES: Final = re.compile(r"\s*[^\s\"'“‘«(\[「『（【〈《A-Z0-9]")
_STARTS_SMALL: Final = re.compile(r"\s*[a-z]")
_HALF_OF_DAY: Final = re.compile(r"\b[AaPp]\.\s?[Mm]\.$")
# Where a sentence may be cut, best places first: after these marks, or before a space.
_CUTS: Final = (re.compile(r"[;:；：—](?!\w)|[；：—]"), re.compile(r"[,，、](?!\d)"), re.compile(r"\s"))


@dataclass(frozen=True)
class Piece:
    """Part of a text that is synthesised at once, and the silence after it."""

    text: str
    pause_seconds: float


def split_text(text: str, language: str) -> list[Piece]:
    """Split a text after its sentences into pieces of at most LIMITS characters, without leading and trailing spaces.

    Pieces without a letter or digit join their neighbour. Dots of English abbreviations, initials and numbers never end
    a sentence, in any language; a paragraph (an empty line) always does. The last piece has no pause.
    """
    pieces: list[Piece] = []
    for paragraph in _PARAGRAPH.split(text.strip()):
        for sentence in _sentences(paragraph):
            parts = list(_cut(sentence, LIMITS.get(language, LIMITS["EN"])))
            pieces += [Piece(part, 0.0) for part in parts[:-1]] + [Piece(parts[-1], SENTENCE_PAUSE_SECONDS)]
        pieces[-1] = Piece(pieces[-1].text, PARAGRAPH_PAUSE_SECONDS)
    pieces[-1] = Piece(pieces[-1].text, 0.0)
    return pieces


def _sentences(paragraph: str) -> list[str]:
    abbreviations = abbreviation_spans(paragraph)
    sentences, start = [], 0
    for match in _END.finditer(paragraph):
        if match.end() < len(paragraph) and _ends_sentence(match, abbreviations):
            sentences.append(paragraph[start : match.end()].strip())
            start = match.end()
    sentences.append(paragraph[start:].strip())
    joined = [sentences[0]]
    for sentence in sentences[1:]:
        if _is_spoken(joined[-1]) and _is_spoken(sentence):
            joined.append(sentence)
        else:
            joined[-1] = f"{joined[-1]} {sentence}".strip()
    return joined


def _ends_sentence(match: re.Match[str], abbreviations: list[tuple[int, int]]) -> bool:
    text, end = match.string, match.end()
    small = _STARTS_SMALL.match(text, end) is not None
    marks, closers = match["marks"] or match["wide_marks"], match["closers"] or match["wide_closers"]
    if closers and _CONTINUES.match(text, end):
        return False
    if marks in ("…", "...") and small:
        return False
    if marks == ".":
        before = text[: match.start() + 1]
        if _HALF_OF_DAY.search(before):
            return not small
        return not any(first < len(before) <= last for first, last in abbreviations)
    return True


def _is_spoken(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _cut(sentence: str, limit: int) -> Iterator[str]:
    """Yield a sentence in parts of at most `limit` characters, cut at the best place in the last two thirds of each."""
    while len(sentence) > limit:
        places = (max((match.end() for match in cut.finditer(sentence, limit // 3, limit)), default=0) for cut in _CUTS)
        place = next(filter(None, places), limit)
        if _is_spoken(sentence[:place]) and _is_spoken(sentence[place:]):
            yield sentence[:place].strip()
            sentence = sentence[place:].strip()
        else:
            break
    yield sentence
