"""Units of error rates: the pronunciation of a text, so that a recogniser's choice of script does not count.

English is compared by words. Chinese characters and Japanese kanji do not show their pronunciation, and the recogniser
may write the same sound differently (她/他; 私/わたし). Chinese is therefore compared by toned pinyin syllables and
Japanese by kana. The pronunciations of both sides come from the same dictionary (pypinyin, OpenJTalk).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby

from model.text.errors import TextError
from model.text.reading import normalise_readable
from model.text.registry import available_languages, get_front_end

UNIT_NAMES = {"EN": "word", "ZH": "toned pinyin syllable", "JP": "kana"}
# Names of the error rates by a language's own unit, which the summary lists beside wer.
UNIT_RATES = {"ZH": "pinyin_error_rate", "JP": "kana_error_rate"}
_SEPARATORS = {"JP": ""}

_VOWEL_ROWS = {
    "ア": "アカサタナハマヤラワガザダバパァャヮ",
    "イ": "イキシチニヒミリギジヂビピィ",
    "ウ": "ウクスツヌフムユルグズヅブプゥュヴ",
    "エ": "エケセテネヘメレゲゼデベペェ",
    "オ": "オコソトノホモヨロヲゴゾドボポォョ",
}
_VOWEL_OF = {kana: vowel for vowel, row in _VOWEL_ROWS.items() for kana in row}
_LENGTHENING = {("エ", "イ"), ("オ", "ウ"), *((vowel, vowel) for vowel in _VOWEL_ROWS)}
_SAME_SOUND = str.maketrans({"ヲ": "オ", "ヂ": "ジ", "ヅ": "ズ", "’": None})


def words_of(text: str, language: str) -> list[str]:
    """Return a text's units: its pronunciation without case, punctuation and pauses.

    Numbers are spelled out. Unreadable characters are dropped; a text without speech has no units.
    """
    if language == "EN":
        from model.text.english.front_end import spoken_words

        return [word for word in spoken_words(text) if word]
    spoken = _as_spoken(text, language)
    if language == "ZH":
        return list(_pinyin_syllables(spoken))
    if language == "JP":
        return list(_kana(spoken))
    spaced = [character if character.isalnum() or character == "'" else " " for character in spoken.casefold()]
    return "".join(spaced).split()


def separator_of(language: str) -> str:
    """Return the separator between a language's units in character error rates."""
    return _SEPARATORS.get(language, " ")


def _as_spoken(text: str, language: str) -> str:
    if language not in available_languages():
        return unicodedata.normalize("NFKC", text)
    try:
        return normalise_readable(get_front_end(language), text)[0]
    except TextError:
        return ""


def _pinyin_syllables(text: str) -> Iterator[str]:
    """Yield toned syllables for Chinese characters (neutral tone 5), words for Latin letters, and single kana."""
    from pypinyin import Style, lazy_pinyin

    from model.text.english.front_end import spoken_words
    from model.text.mandarin.words import simplified

    for script, group in groupby(simplified(text), _script):
        run = "".join(group)
        if script == "han":
            yield from lazy_pinyin(run, style=Style.TONE3, neutral_tone_with_five=True)
        elif script == "latin":
            yield from filter(None, spoken_words(run))
        elif script == "kana":
            yield from _kana(run)


def _script(character: str) -> str:
    name = unicodedata.name(character, "")
    if name.startswith("CJK UNIFIED") or character == "〇":
        return "han"
    if name.startswith(("HIRAGANA", "KATAKANA")):
        return "kana"
    return "latin" if name.startswith("LATIN") or character in "' -" else "mark"


def _kana(text: str) -> str:
    """Return a text's pronunciation in katakana, with every long vowel as ー."""
    import pyopenjtalk

    if not text.strip():
        return ""
    pronounced = unicodedata.normalize("NFKC", str(pyopenjtalk.g2p(text, kana=True))).translate(_SAME_SOUND)
    kana: list[str] = []
    for character in re.findall(r"[ァ-ヴー]", pronounced):
        vowel = next((_VOWEL_OF.get(earlier) for earlier in reversed(kana) if earlier != "ー"), None)
        kana.append("ー" if (vowel, character) in _LENGTHENING else character)
    return "".join(kana)
