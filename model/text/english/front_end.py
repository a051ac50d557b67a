"""English front end: text to ARPAbet phones in the symbol table's notation."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from model.text.english.homographs import homograph_reading
from model.text.english.normaliser import normalise_english, split_unreadable
from model.text.english.pronunciation import Pronouncer, letter_name
from model.text.errors import ReasonCode, TextError
from model.text.phone_sequence import PhoneSequence

_TENS: Final = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_ONES: Final = "one|two|three|four|five|six|seven|eight|nine|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth"
# "twenty-four" is one word without a pause; other hyphens are pause marks between words.
_TOKEN: Final = re.compile(
    rf"(?P<number>\b(?:{_TENS})-(?:{_ONES})s?\b)|(?P<word>'?[A-Za-z]+(?:'[A-Za-z]+)*'?)|(?P<mark>[!?…,.'\-])|(?P<other>\S)",
    re.IGNORECASE,
)
_HYPHEN_PREFIXES: Final = frozenset({"re", "un", "pre", "de", "co", "anti"})


class EnglishFrontEnd:
    """American English by dictionary, morphology and, for the rest, a neural network."""

    language: Final = "EN"

    def __init__(self, lexicon: Mapping[str, Sequence[str] | str] | None = None) -> None:
        """Create a front end. lexicon: word → ARPAbet phones with stress digits, which override all other readings.

        Raises TextError invalid_lexicon.
        """
        self._pronouncer = Pronouncer(lexicon)

    def normalise(self, text: str) -> str:
        """Return the text as it is spoken: only letters, apostrophes and pause marks.

        Raises TextError: too_long, unreadable_character, no_speech.
        """
        return normalise_english(text)

    def to_phones(self, normalised: str) -> PhoneSequence:
        """Return the phones of a normalised text, word by word; tone = stress + 1 for vowels, 0 for all else.

        Raises TextError: unreadable_character, no_speech.
        """
        tokens = _tokenise(normalised)
        if all(token.lastgroup == "mark" for token in tokens):
            raise TextError(ReasonCode.EMPTY, f"{normalised[:40]!r} has no words")
        arpabet = [self._token_phones(tokens, index) for index in range(len(tokens))]
        phones, tones = _symbols_and_tones([phone for word in arpabet for phone in word])
        return PhoneSequence(
            words=tuple(token.group() for token in tokens),
            word_spans=tuple(token.span() for token in tokens),
            phones=phones,
            tones=tones,
            word2ph=tuple(len(word) for word in arpabet),
            languages=(self.language,) * len(tokens),
        )

    def spoken_words(self, text: str) -> list[str]:
        """Return the lower-case words as spoken, numbers and letters spelled out, no pause marks; empty for no speech.

        Used to compare transcripts, so it accepts every text: an unreadable character is a word.
        """
        words = []
        for piece, readable in split_unreadable(text):
            if not readable:
                words.append(piece)
                continue
            for token in _tokenise(piece):
                spelling = self._pronouncer.spelling(token.group())
                if token.lastgroup == "mark":
                    continue
                words.extend(list(spelling.lower()) if spelling else token.group().lower().strip("'").split("-"))
        return words

    def _token_phones(self, tokens: Sequence[re.Match[str]], index: int) -> tuple[str, ...]:
        token = tokens[index]
        word = token.group()
        if token.lastgroup == "mark":
            return (word,)
        if token.lastgroup == "number":
            return self._number_phones(word.lower())
        if len(word) == 1:
            return self._letter_or_article(tokens, index)
        lower = word.lower()
        if lower in _HYPHEN_PREFIXES and _text_at(tokens, index + 1) == "-":
            return self._pronouncer.known(lower + "-") or self._pronouncer.pronounce(word)
        reading = homograph_reading(lower, _word_before(tokens, index), _word_at(tokens, index + 1))
        if reading is not None and not self._pronouncer.in_user_lexicon(lower):
            return tuple(reading.split())
        return self._pronouncer.pronounce(word)

    def _number_phones(self, number: str) -> tuple[str, ...]:
        whole = self._pronouncer.known(number)
        if whole is not None:
            return whole
        return tuple(phone for part in number.split("-") for phone in self._pronouncer.pronounce(part))

    def _letter_or_article(self, tokens: Sequence[re.Match[str]], index: int) -> tuple[str, ...]:
        """Return the name of a single letter, or the article for "a" before a word."""
        letter = tokens[index].group()
        following = tokens[index + 1].group() if index + 1 < len(tokens) else ""
        before_letter = len(following) == 1 and following.isupper()
        first = index == 0 or tokens[index - 1].lastgroup == "mark"
        is_article = following[:1].isalpha() and not before_letter
        if letter == "A" and is_article:
            is_article = following[0].isupper() or (first and following not in {"and", "or", "is", "to"})
        if letter in "aA" and is_article:
            return self._pronouncer.pronounce("a")
        return letter_name(letter)


def spoken_words(text: str) -> list[str]:
    """Return the lower-case English words as spoken, for word error rates: "100" and "one hundred" compare equal."""
    return _plain_front_end().spoken_words(text)


@lru_cache(maxsize=1)
def _plain_front_end() -> EnglishFrontEnd:
    return EnglishFrontEnd()


def _tokenise(normalised: str) -> list[re.Match[str]]:
    tokens = list(_TOKEN.finditer(normalised))
    for token in tokens:
        if token.lastgroup == "other":
            character = token.group()
            raise TextError(
                ReasonCode.UNREADABLE_CHARACTER,
                f"{character!r} (U+{ord(character):04X}) at {token.start()} of a text to be normalised first",
            )
    return tokens


def _word_at(tokens: Sequence[re.Match[str]], index: int) -> str | None:
    if not 0 <= index < len(tokens) or tokens[index].lastgroup == "mark":
        return None
    return tokens[index].group().lower()


def _word_before(tokens: Sequence[re.Match[str]], index: int) -> str | None:
    previous = _word_at(tokens, index - 1)
    return _word_at(tokens, index - 2) if previous == "not" else previous


def _text_at(tokens: Sequence[re.Match[str]], index: int) -> str | None:
    return tokens[index].group() if 0 <= index < len(tokens) else None


def _symbols_and_tones(arpabet: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    phones, tones = [], []
    for phone in arpabet:
        stressed = phone[-1] in "012"
        symbol = phone[:-1].lower() if stressed else phone.lower()
        phones.append("V" if symbol == "v" else symbol)
        tones.append(int(phone[-1]) + 1 if stressed else 0)
    return tuple(phones), tuple(tones)
