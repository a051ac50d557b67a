"""Japanese front end: text to phones in the symbol table's notation, with pitch.

OpenJTalk reads the whole sentence, so that compounds and particles are read as they are spoken. A long vowel is its
vowel twice ("t o o ky o o"), as OpenJTalk writes it: each mora keeps its pitch (the accent often falls inside a long
vowel), and the table's "o:" has no meaning in existing checkpoints, because their training text never contained it.
Tone 1 is a high mora, 0 a low one.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from model.text.errors import MAX_CHARACTERS, ReasonCode, TextError, character_name, check_length
from model.text.front_end import FrontEnd
from model.text.japanese.analysis import Morpheme, analyse, read_katakana
from model.text.japanese.normaliser import READABLE, normalise_japanese, source_characters
from model.text.phone_sequence import PhoneSequence

PAUSE_MARKS: Final = "!?…,.'-"
_AS_JAPANESE_MARKS: Final = str.maketrans({"!": "！", "?": "？", ",": "、", ".": "。", "'": "、", "-": "、"})
_ENGLISH_RUN: Final = re.compile(r"[A-Za-z]+(?:[ !?…,.'\-]+[A-Za-z]+)*")
# Placeholders in the analysed sentence for words that are read elsewhere: nouns that form no compounds in the
# dictionary, so that the words around them are read as they are after a noun. The first is accented on the first mora,
# because the Japanese reading of a foreign word ends low; the second is unaccented, like a reading from the lexicon.
_FOREIGN_NOUN: Final = "鵺"
_FLAT_NOUN: Final = "鼬"
_KATAKANA_READING: Final = re.compile(r"[ァ-ヴ][ァ-ヴー・]*")


@dataclass(frozen=True)
class _Word:
    start: int
    end: int
    phones: tuple[str, ...]
    tones: tuple[int, ...]
    language: str = "JP"


@dataclass(frozen=True)
class _Insertion:
    """Characters [start, end) of a text that are read separately, with their reading."""

    start: int
    end: int
    words: tuple[_Word, ...]
    stand_in: str


class JapaneseFrontEnd:
    """Japanese by OpenJTalk; Latin words by the English front end."""

    language: Final = "JP"

    def __init__(
        self, front_end_of: Callable[[str], FrontEnd], lexicon: Mapping[str, Sequence[str] | str] | None = None
    ) -> None:
        """Create a front end that reads Latin words with `front_end_of("EN")`.

        lexicon: word → reading in katakana, which overrides all other readings; the longest word wins. オウ and エイ in
        a reading are long vowels; a middle dot between the vowels separates them ("スペ・イン"). Raises TextError
        invalid_lexicon.
        """
        self._normalise_english: Callable[[str], str] = lru_cache(maxsize=4096)(
            lambda run: front_end_of("EN").normalise(run)
        )
        self._english_sequence: Callable[[str], PhoneSequence] = lru_cache(maxsize=4096)(
            lambda run: front_end_of("EN").to_phones(run)
        )
        self._readings = {
            self._rewrite(word): _lexicon_reading(word, reading) for word, reading in (lexicon or {}).items()
        }
        if "" in self._readings:
            raise TextError(ReasonCode.INVALID_LEXICON, "lexicon: an entry's word has no spoken characters")
        self._lexicon_words = _words_pattern(self._readings)
        # `normalise` analyses the text to check it, and `to_phones` needs the same analysis.
        self._sequence: Callable[[str], PhoneSequence] = lru_cache(maxsize=256)(self._make_sequence)

    def normalise(self, text: str) -> str:
        """Return the text as it is spoken: kana, kanji, Latin letters and pause marks; numbers in kanji.

        Raises TextError: too_long, unreadable_character (all of them), no_speech.
        """
        normalised = self._rewrite(text)
        try:
            self._sequence(normalised)
        except TextError as error:
            if error.characters:
                raise _unreadable(self._all_unreadable(text, error.characters)) from None
            raise
        return normalised

    def to_phones(self, normalised: str) -> PhoneSequence:
        """Return the phones of a normalised text, one word per OpenJTalk word; Latin words are English.

        Raises TextError: too_long, unreadable_character (all of them), no_speech.
        """
        return self._sequence(normalised)

    def _all_unreadable(self, text: str, characters: str) -> str:
        """Return the characters of the written text that make it unreadable, given some unreadable ones of its
        normalised form.
        """
        unreadable = ""
        while characters:
            written = source_characters(text, characters)
            if not written:
                return unreadable or characters
            unreadable += written
            text = "".join(character for character in text if character not in written)
            characters = ""
            try:
                self._sequence(self._rewrite(text))
            except TextError as error:
                characters = error.characters
        return unreadable

    def _rewrite(self, text: str) -> str:
        return normalise_japanese(text, self._normalise_english)

    def _make_sequence(self, normalised: str) -> PhoneSequence:
        check_length(normalised, 4 * MAX_CHARACTERS)
        insertions = list(self._insertions(normalised))
        _refuse_unreadable(_characters_outside(normalised, insertions, READABLE))
        words = _read_with_insertions(normalised, insertions)
        _refuse_unreadable("".join(normalised[word.start : word.end] for word in words if not word.phones))
        if not words:
            raise TextError(ReasonCode.EMPTY, "no kana, kanji, letters or digits")
        words = _with_marks(normalised, words)
        return PhoneSequence(
            words=tuple(normalised[word.start : word.end] for word in words),
            word_spans=tuple((word.start, word.end) for word in words),
            phones=tuple(phone for word in words for phone in word.phones),
            tones=tuple(tone for word in words for tone in word.tones),
            word2ph=tuple(len(word.phones) for word in words),
            languages=tuple(word.language for word in words),
        )

    def _insertions(self, normalised: str) -> Iterator[_Insertion]:
        """Return the lexicon's words and the English runs of a text, in order."""
        end = 0
        for match in self._lexicon_words.finditer(normalised) if self._lexicon_words else ():
            yield from self._english_insertions(normalised, end, match.start())
            phones, pitches = self._readings[match.group()]
            yield _Insertion(*match.span(), (_Word(*match.span(), phones, pitches),), _FLAT_NOUN)
            end = match.end()
        yield from self._english_insertions(normalised, end, len(normalised))

    def _english_insertions(self, text: str, start: int, end: int) -> Iterator[_Insertion]:
        for match in _ENGLISH_RUN.finditer(text, start, end):
            sequence = self._english_sequence(match.group())
            words, first_phone = [], 0
            for (word_start, word_end), count in zip(sequence.word_spans, sequence.word2ph, strict=True):
                phones = slice(first_phone, first_phone + count)
                words.append(
                    _Word(
                        match.start() + word_start,
                        match.start() + word_end,
                        sequence.phones[phones],
                        sequence.tones[phones],
                        "EN",
                    )
                )
                first_phone += count
            yield _Insertion(*match.span(), tuple(words), _FOREIGN_NOUN)


def _lexicon_reading(word: str, reading: Sequence[str] | str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    katakana = reading if isinstance(reading, str) else "".join(reading)
    katakana = "".join(
        chr(ord(kana) + 0x60) if "ぁ" <= kana <= "ゔ" else kana for kana in katakana if not kana.isspace()
    )
    phones, pitches = read_katakana(katakana) if _KATAKANA_READING.fullmatch(katakana) else ((), ())
    if not phones:
        raise TextError(
            ReasonCode.INVALID_LEXICON,
            f"lexicon: {word!r} has {reading!r}; expected a reading in katakana such as 'トウキョウ'",
        )
    return phones, pitches


def _words_pattern(words: Mapping[str, object]) -> re.Pattern[str] | None:
    """Return a pattern that matches any of the words, the longest first; Latin ones only as whole words."""
    patterns = []
    for word in sorted(words, key=len, reverse=True):
        before = r"(?<![A-Za-z])" if word[0].isascii() else ""
        after = r"(?![A-Za-z])" if word[-1].isascii() else ""
        patterns.append(before + re.escape(word) + after)
    return re.compile("|".join(patterns)) if patterns else None


def _characters_outside(text: str, insertions: Sequence[_Insertion], readable: re.Pattern[str]) -> str:
    """Return the characters that no insertion covers and the pattern does not match."""
    starts = [0, *(insertion.end for insertion in insertions)]
    ends = [*(insertion.start for insertion in insertions), len(text)]
    return "".join(readable.sub("", text[start:end]) for start, end in zip(starts, ends, strict=True))


def _refuse_unreadable(characters: str) -> None:
    if characters:
        raise _unreadable(characters)


def _unreadable(characters: str) -> TextError:
    distinct = "".join(dict.fromkeys(characters))
    return TextError(
        ReasonCode.UNREADABLE_CHARACTER, f"{character_name(distinct[0])} cannot be read in Japanese", distinct
    )


def _read_with_insertions(text: str, insertions: Sequence[_Insertion]) -> list[_Word]:
    """Return all words of a text: OpenJTalk reads the sentence with a noun in place of each insertion."""
    sentence, end = "", 0
    origins: list[int] = []
    stand_ins: dict[int, _Insertion] = {}
    for insertion in [*insertions, _Insertion(len(text), len(text), (), "")]:
        sentence += text[end : insertion.start].translate(_AS_JAPANESE_MARKS)
        origins.extend(range(end, insertion.start))
        if insertion.stand_in:
            stand_ins[len(sentence)] = insertion
            sentence += insertion.stand_in
            origins.append(insertion.start)
        end = insertion.end
    words: list[_Word] = []
    for morpheme in _analyse_around(sentence, sorted(stand_ins)):
        if morpheme.start in stand_ins:
            words.extend(stand_ins[morpheme.start].words)
        else:
            words.append(
                _Word(origins[morpheme.start], origins[morpheme.end - 1] + 1, morpheme.phones, morpheme.pitches)
            )
    return words


def _analyse_around(sentence: str, stand_ins: Sequence[int]) -> list[Morpheme]:
    """Return the words of the sentence, in which each placeholder is a separate word."""
    morphemes = analyse(sentence)
    spans = {(morpheme.start, morpheme.end) for morpheme in morphemes}
    if all((index, index + 1) in spans for index in stand_ins):
        return morphemes
    # A placeholder was merged into a longer word, so the parts are read separately.
    parts: list[Morpheme] = []
    start = 0
    for index in [*stand_ins, len(sentence)]:
        for part in analyse(sentence[start:index]):
            parts.append(Morpheme(start + part.start, start + part.end, part.phones, part.pitches))
        if index < len(sentence):
            parts.append(Morpheme(index, index + 1, (), ()))
        start = index + 1
    return parts


def _with_marks(text: str, words: Sequence[_Word]) -> list[_Word]:
    """Return the words with each pause mark between them as a separate word."""
    complete: list[_Word] = []
    end = 0
    for word in [*words, _Word(len(text), len(text), (), ())]:
        complete.extend(
            _Word(index, index + 1, (text[index],), (0,))
            for index in range(end, word.start)
            if text[index] in PAUSE_MARKS
        )
        if word.phones:
            complete.append(word)
        end = word.end
    return complete
