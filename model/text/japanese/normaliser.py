"""Japanese text normalisation: characters, Latin words, numbers, symbols, then pauses."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from model.text.errors import ReasonCode, TextError, check_length
from model.text.japanese.numbers import expand_numbers, expand_units

KANA: Final = r"\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fc-\u30fe"
KANJI: Final = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff々〆〇仝"
_GREEK: Final = r"Α-Ωα-ω"
# Latin letters before English strips their accents; the range includes × and ÷.
_LATIN: Final = r"A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ"
READABLE: Final = re.compile(rf"[{KANA}{KANJI}{_GREEK}A-Za-z!?…,.'\- ]")

# Applied before NFKC, which would decompose or replace them.
_BEFORE_FOLDING: Final[Mapping[str, str]] = MappingProxyType(
    {
        "…": "…",
        "‥": "…",
        "⋯": "…",
        "゛": "\u3099",
        "゜": "\u309a",
        "～": "〜",
        "~": "〜",
        "〰": "〜",
        "℃": "℃",
        "℉": "°F",
        "²": "²",
        "³": "³",
        "㎡": "m²",
        "㎢": "km²",
        "㎠": "cm²",
        "㎥": "m³",
        "㎤": "cm³",
        "µ": "μ",
        "№": "No.",
        "™": "",
        "®": "",
        "©": "",
        "℠": "",
        "¥": "¥",
        "￥": "¥",
        "‘": "'",
        "’": "'",
        "ʼ": "'",
        "′": "'",
        "＇": "'",
        "`": "'",
        "´": "'",
        "‐": "-",
        "‑": "-",
        "‒": "–",
        "–": "–",
        "—": "—",
        "―": "—",
        "─": "—",
        "━": "—",
        "−": "−",
        "－": "-",
        "ヷ": "ヴァ",
        "ヸ": "ヴィ",
        "ヹ": "ヴェ",
        "ヺ": "ヴォ",
    }
)

_SPOKEN_SYMBOLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "%": "パーセント",
        "&": "アンド",
        "@": "アットマーク",
        "+": "プラス",
        "=": "イコール",
        "#": "シャープ",
        "*": "アスタリスク",
        "$": "ドル",
        "¥": "円",
        "€": "ユーロ",
        "£": "ポンド",
        "\\": "バックスラッシュ",
        "℃": "度",
        "°": "度",
        "±": "プラスマイナス",
        "×": "かける",
        "÷": "割る",
        "≠": "ノットイコール",
        "≒": "ニアリーイコール",
        "≦": "小なりイコール",
        "≧": "大なりイコール",
        "≤": "小なりイコール",
        "≥": "大なりイコール",
        "∞": "無限大",
        "√": "ルート",
        "−": "マイナス",
        "²": "の二乗",
        "³": "の三乗",
        "〒": "郵便番号",
        "○": "まる",
        "◯": "まる",
    }
)
# Layout marks are pauses; quotation marks are not spoken.
_LAYOUT: Final = str.maketrans(
    {mark: "," for mark in "、，，・･･;；:：|()（）[]{}<>【】〔〕〈〉《》→←↑↓⇒⇐•●■□◆◇▲△▼▽★☆※/／"}
    | {"。": ".", "．": ".", "！": "!", "？": "?", "—": "-", "–": "-", "_": " ", "^": " "}
    | {mark: None for mark in '「」『』“”„"«»‹›〝〟‚'}
)
_HONORIFICS: Final[Mapping[str, str]] = MappingProxyType(
    {"Dr": "Doctor", "Mr": "Mister", "Mrs": "Missus", "Ms": "Ms", "Prof": "Professor"}
)
# Read with English numbers in Japanese too: スリーディー, エムピースリー.
_ENGLISH_NUMBERS: Final[Mapping[str, str]] = MappingProxyType({"2": "two", "3": "three", "4": "four", "5": "five"})

_ENGLISH_RUN: Final = re.compile(rf"[{_LATIN}](?:[{_LATIN}0-9'&@./:_\- ]*[{_LATIN}])?")
_SPOKEN: Final = rf"{KANA}{KANJI}{_GREEK}A-Za-z"


def normalise_japanese(text: str, normalise_english: Callable[[str], str]) -> str:
    """Return the text as it is spoken, possibly with unreadable characters.

    normalise_english: applied to each run of Latin words. Raises TextError too_long.
    """
    check_length(text)
    # NFC joins a kana with its voicing mark, half-width ones too; marks without a base letter are dropped.
    text = unicodedata.normalize("NFC", "".join(map(_fold_character, text)))
    text = "".join(character for character in text if unicodedata.category(character) != "Mn")
    text = re.sub(r"(?<=\d) (?=\d+⁄\d)", "と", text)
    text = re.sub(r"(?<=\d)[ー—−](?=\d)", "-", text)
    text = _speak_latin_runs(expand_units(text), normalise_english)
    text = expand_numbers(text)
    text = "".join(_SPOKEN_SYMBOLS.get(character, character) for character in text)
    return _normalise_pauses(_speak_wave_dashes(text).translate(_LAYOUT))


def source_characters(text: str, characters: str) -> str:
    """Return the characters of a written text that become any of these in its normalised form."""
    targets = {*characters, *unicodedata.normalize("NFD", characters)}
    return "".join(character for character in dict.fromkeys(text) if not targets.isdisjoint(_fold_character(character)))


@lru_cache(maxsize=16384)
def _fold_character(character: str) -> str:
    """Return the usual form of a character: full-width and compatibility forms folded, control characters dropped."""
    if character in _BEFORE_FOLDING:
        return _BEFORE_FOLDING[character]
    if character.isspace():
        return " "
    category = unicodedata.category(character)
    if category in ("Cc", "Cf"):
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    name = unicodedata.name(character, "")
    if name.startswith("ROMAN NUMERAL"):
        return str(int(unicodedata.numeric(character)))
    if "ㇰ" <= character <= "ㇿ":
        return unicodedata.lookup(name.replace("SMALL ", ""))
    folded = unicodedata.normalize("NFKC", character)
    # The space keeps "1½" from becoming eleven halves and "①②" from becoming twelve.
    return f" {folded}" if category == "No" and folded != character else folded


def _speak_latin_runs(text: str, normalise_english: Callable[[str], str]) -> str:
    """Return the text with Latin words as English speaks them; numbers between two of them are English as well."""

    def speak(match: re.Match[str]) -> str:
        run = match.group()
        if run.isascii() and run.isalpha():
            return run
        if "/" in run and "://" not in run:
            return ",".join(_speak_latin_runs(part, normalise_english) for part in run.split("/"))
        try:
            return normalise_english(run)
        except TextError as error:
            if error.reason_code == ReasonCode.TOO_LONG:
                raise
            return run

    text = re.sub(
        r"(?<![A-Za-z0-9.])([2-5])([DG])(?![A-Za-z0-9])", lambda match: f"{_ENGLISH_NUMBERS[match[1]]} {match[2]}", text
    )
    text = re.sub(r"(?<![A-Za-z])MP([34])(?![0-9])", lambda match: f"MP {_ENGLISH_NUMBERS[match[1]]}", text)
    text = re.sub(r"\b(Dr|Mr|Mrs|Ms|Prof)\.\s?(?![A-Za-z\s])", lambda match: f"{_HONORIFICS[match[1]]} ", text)
    return re.sub(r"(?<=[A-Za-z])-(?=\d)", " ", _ENGLISH_RUN.sub(speak, text))


def _speak_wave_dashes(text: str) -> str:
    """Replace wave dashes: a long vowel after kana, "to" between kanji, a pause elsewhere."""
    text = re.sub(rf"(?<=[{KANJI}])〜(?=[{KANJI}])", "から", text)
    text = re.sub(rf"(?<=[{KANA}])〜+", "ー", text)
    return text.replace("〜", ",")


def _normalise_pauses(text: str) -> str:
    """Merge adjacent pause marks; keep apostrophes and hyphens only inside words, single spaces only away from the
    marks.
    """
    # A long vowel mark without a kana before it is dropped.
    text = re.sub(rf"(?<![{KANA}{KANJI}])ー+", "", text)
    text = re.sub(r"\.{2,}", "…", text)
    text = re.sub(r"(?<![A-Za-z])'|'(?![A-Za-z])", "", text)
    text = re.sub(r"\s+-+\s+", ",", text)
    text = re.sub(r"[!?…,.\-](?:\s*[!?…,.\-])+", _strongest_mark, text)
    text = re.sub(r"\s+(?=[!?…,.\-])|(?<=[!?…,.\-])\s+(?![A-Za-z])|(?<=-)\s+", "", text)
    text = re.sub(r"\s+", " ", text)
    return re.sub(rf"^[\s!?…,.\-]+(?=[{_SPOKEN}])|[\s,\-]+$", "", text)


def _strongest_mark(match: re.Match[str]) -> str:
    return next(mark for mark in "?!….,-" if mark in match.group())
