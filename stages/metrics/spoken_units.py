"""What error rates count: a text as its sound, so that a recogniser's choice of script does not.

English is compared by words. Chinese characters and Japanese kanji do not show their sound, and the recogniser may
write the
same sound otherwise (妈/马 differ in tone, 她/他 do not; 私/わたし): Chinese is compared by toned pinyin syllables, Japanese by
kana. Each language's readings come from its dictionary (pypinyin, OpenJTalk), for both sides alike.
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
# What the rate of a language's own unit is called in the metrics, beside its name for all languages, wer.
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
    """Return the units that a text is compared by: sound only, without case, marks and pauses.

    Numbers count as they are spoken. Characters that nobody can read are left out; a text without speech has no units.
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
    """Return what stands between the units of a language when their characters are counted."""
    return _SEPARATORS.get(language, " ")


def _as_spoken(text: str, language: str) -> str:
    if language not in available_languages():
        return unicodedata.normalize("NFKC", text)
    try:
        return normalise_readable(get_front_end(language), text)[0]
    except TextError:
        return ""


def _pinyin_syllables(text: str) -> Iterator[str]:
    """Yield the toned syllables of Chinese characters (neutral tone 5), the words of Latin letters, and kana by kana."""
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
    """Return a text's reading in katakana, long vowels as ー however they are spelled."""
    import pyopenjtalk

    if not text.strip():
        return ""
    read = unicodedata.normalize("NFKC", str(pyopenjtalk.g2p(text, kana=True))).translate(_SAME_SOUND)
    kana: list[str] = []
    for character in re.findall(r"[ァ-ヴー]", read):
        vowel = next((_VOWEL_OF.get(earlier) for earlier in reversed(kana) if earlier != "ー"), None)
        kana.append("ー" if (vowel, character) in _LENGTHENING else character)
    return "".join(kana)
