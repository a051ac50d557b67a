"""Mandarin front end: text to initials and finals in the symbol table's notation.

Words in Latin letters or kana are read by the English and Japanese front ends.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Final

from model.text.errors import ReasonCode, TextError, character_name
from model.text.front_end import FrontEnd
from model.text.mandarin.normaliser import HAN, KANA, normalise_mandarin
from model.text.mandarin.polyphones import contextual_reading
from model.text.mandarin.sandhi import spoken_tones
from model.text.mandarin.syllables import syllable_phones
from model.text.mandarin.words import WordReader, simplified
from model.text.phone_sequence import PhoneSequence

_MARKS: Final = "!?…,.'-"
_TOKEN: Final = re.compile(
    rf"(?P<ZH>[{HAN}]+)|(?P<EN>[A-Za-z]+(?:[ {_MARKS}]+[A-Za-z]+)*)|(?P<JP>[{KANA}]+(?:[ {_MARKS}]+[{KANA}]+)*)"
    rf"|(?P<mark>[{_MARKS}])|(?P<space> )|(?P<other>.)",
    re.DOTALL,
)


class MandarinFrontEnd:
    """Standard Mandarin by phrase dictionary, rules for polyphonic characters, and tone sandhi."""

    language: Final = "ZH"

    def __init__(
        self, front_end_of: Callable[[str], FrontEnd], lexicon: Mapping[str, Sequence[str] | str] | None = None
    ) -> None:
        """Create a front end that reads Latin words with `front_end_of("EN")` and kana with `front_end_of("JP")`.

        lexicon: word → pinyin with tone digits, one syllable per character, without sandhi. Raises TextError
        invalid_lexicon.
        """
        self._reader = WordReader(lexicon)
        self._front_end_of = front_end_of

    def normalise(self, text: str) -> str:
        """Return the text as it is spoken: Han characters (as written, traditional ones too), Latin words, kana and
        pause marks.

        Numbers become words; telephone numbers and codes are read digit by digit. Raises TextError: too_long,
        unreadable_character with all such characters, no_speech.
        """
        return normalise_mandarin(text, self._front_end_of("EN").normalise, self._reader.has_reading)

    def to_phones(self, normalised: str) -> PhoneSequence:
        """Return the phones of a normalised text.

        Each character is a word of two phones that both carry its tone (1 to 4, 5 neutral). Latin words and kana have
        the phones and tones of their own languages, as do the pause marks between two such words. Raises TextError:
        unreadable_character, no_speech.
        """
        pieces: list[PhoneSequence] = []
        unreadable = ""
        for token in _TOKEN.finditer(normalised):
            kind, text = token.lastgroup, token.group()
            if kind == "other":
                unreadable += text
            elif kind == "mark":
                pieces.append(PhoneSequence((text,), (token.span(),), (text,), (0,), (1,), ("ZH",)))
            elif kind == "ZH":
                pieces.append(self._read_characters(text, token.start()))
            elif kind in ("EN", "JP"):
                pieces.append(_shifted(self._front_end_of(kind).to_phones(text), token.start(), kind))
        if unreadable:
            raise TextError(
                ReasonCode.UNREADABLE_CHARACTER,
                f"{character_name(unreadable[0])} in a text to be normalised first",
                "".join(dict.fromkeys(unreadable)),
            )
        if all(piece.words[0] in _MARKS for piece in pieces if piece.words):
            raise TextError(ReasonCode.EMPTY, f"{normalised[:40]!r} has no words")
        return _concatenated(pieces)

    def _read_characters(self, text: str, offset: int) -> PhoneSequence:
        simple = simplified(text)
        words = self._reader.words(simple)
        readings = [reading for word in words for reading in word.readings]
        for index, reading in enumerate(readings):
            if not reading.certain:
                readings[index] = contextual_reading(simple, index) or reading
        phones: list[str] = []
        tones: list[int] = []
        for reading, tone in zip(readings, spoken_tones(words, [reading.tone for reading in readings]), strict=True):
            phones += syllable_phones(reading.syllable) or ()
            tones += (tone, tone)
        spans = tuple((index, index + 1) for index in range(offset, offset + len(text)))
        return PhoneSequence(tuple(text), spans, tuple(phones), tuple(tones), (2,) * len(text), ("ZH",) * len(text))


def _shifted(sequence: PhoneSequence, offset: int, language: str) -> PhoneSequence:
    """Return the sequence of a part with spans in the whole text and a language for every word."""
    spans = tuple((start + offset, end + offset) for start, end in sequence.word_spans)
    languages = sequence.languages or (language,) * len(sequence.words)
    return PhoneSequence(sequence.words, spans, sequence.phones, sequence.tones, sequence.word2ph, languages)


def _concatenated(pieces: Sequence[PhoneSequence]) -> PhoneSequence:
    if len(pieces) == 1:
        return pieces[0]
    return PhoneSequence(
        words=tuple(chain.from_iterable(piece.words for piece in pieces)),
        word_spans=tuple(chain.from_iterable(piece.word_spans for piece in pieces)),
        phones=tuple(chain.from_iterable(piece.phones for piece in pieces)),
        tones=tuple(chain.from_iterable(piece.tones for piece in pieces)),
        word2ph=tuple(chain.from_iterable(piece.word2ph for piece in pieces)),
        languages=tuple(chain.from_iterable(piece.languages for piece in pieces)),
    )
