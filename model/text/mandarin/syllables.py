"""Pinyin to the symbol table's phones: every syllable is an initial, or a mark for having none, and a final."""

import unicodedata
from functools import lru_cache
from typing import Final

from model.text.symbols import MANDARIN_PHONES

NEUTRAL: Final = 5

_INITIALS: Final = (
    "zh",
    "ch",
    "sh",
    "b",
    "p",
    "m",
    "f",
    "d",
    "t",
    "n",
    "l",
    "g",
    "k",
    "h",
    "j",
    "q",
    "x",
    "r",
    "z",
    "c",
    "s",
)
# Interjections without a vowel, approximated by the nearest syllable with one.
_VOWELLESS: Final = {"n": "en", "ng": "en", "m": "mu", "hm": "heng", "hng": "heng", "ê": "ei"}
_TONE_MARKS: Final = {"\u0304": 1, "\u0301": 2, "\u030c": 3, "\u0300": 4}
_DIAERESIS, _CIRCUMFLEX = "\u0308", "\u0302"


@lru_cache(maxsize=4096)
def split_tone(marked: str) -> tuple[str, int]:
    """Return a syllable with a tone mark as (letters, tone): "lǜ" → ("lv", 4), "ma" → ("ma", 5)."""
    letters, tone = "", NEUTRAL
    for part in unicodedata.normalize("NFD", marked.lower()):
        if part in _TONE_MARKS:
            tone = _TONE_MARKS[part]
        elif part == _DIAERESIS:
            letters = letters[:-1] + "v"
        elif part == _CIRCUMFLEX:
            letters = letters[:-1] + "ê"
        else:
            letters += part
    return letters, tone


@lru_cache(maxsize=2048)
def syllable_phones(syllable: str) -> tuple[str, str] | None:
    """Return the two phones of a toneless pinyin syllable ("ü" as "v"), or None for anything else.

    A spelling with y or w keeps that letter as its initial; a bare vowel gets the mark AA, EE or OO. "ü" after j, q, x
    and y is written as such, "i" after z, c, s and zh, ch, sh, r is one of the two apical vowels, and the "e" and "an"
    of "ye" and "yan" have their own symbols.
    """
    syllable = _VOWELLESS.get(syllable, syllable)
    if not syllable:
        return None
    if syllable[0] in "aeo":
        phones = (syllable[0].upper() * 2, syllable)
    elif syllable[0] == "w":
        phones = ("w", syllable[1:])
    elif syllable[0] == "y":
        phones = ("y", _final_after_y(syllable[1:]))
    else:
        initial = next((initial for initial in _INITIALS if syllable.startswith(initial)), "")
        phones = (initial, _final_after(initial, syllable[len(initial) :]))
    return phones if set(phones) <= MANDARIN_PHONES else None


def _final_after_y(final: str) -> str:
    if final[:1] == "u":
        return "v" + final[1:]
    return {"e": "E", "an": "En"}.get(final, final)


def _final_after(initial: str, final: str) -> str:
    if initial in ("j", "q", "x") and final[:1] == "u":
        return "v" + final[1:]
    if final == "i" and initial in ("z", "c", "s"):
        return "i0"
    if final == "i" and initial in ("zh", "ch", "sh", "r"):
        return "ir"
    return final
