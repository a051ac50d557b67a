"""English text normalisation: characters, abbreviations, numbers, symbols, then pauses."""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from model.text.english.abbreviations import expand_abbreviations
from model.text.english.numbers import expand_numbers
from model.text.errors import ReasonCode, TextError, character_name, check_length

# Applied before NFKC, which would turn "m²" into "m2", "½" after a digit into one number and "…" into dots.
_BEFORE_FOLDING: Final[Mapping[str, str]] = MappingProxyType(
    {
        "²": "²",
        "³": "³",
        "℃": "°C",
        "℉": "°F",
        "™": "",
        "®": "",
        "©": "",
        "℠": "",
        "№": "No. ",
        "‘": "'",
        "’": "'",
        "‚": "'",
        "‛": "'",
        "`": "'",
        "´": "'",
        "ʼ": "'",
        "′": "'",
        "＇": "'",
        "“": '"',
        "”": '"',
        "„": '"',
        "‟": '"',
        "«": '"',
        "»": '"',
        "″": '"',
        "‹": '"',
        "›": '"',
        "「": '"',
        "」": '"',
        "『": '"',
        "』": '"',
        "–": "–",
        "—": "—",
        "―": "—",
        "‐": "-",
        "‑": "-",
        "‒": "–",
        "−": "-",
        "⁃": "-",
        "…": "…",
        "⋯": "…",
        "·": ",",
        "•": ",",
        "‣": ",",
        "→": ",",
        "⇒": ",",
        "←": ",",
        "†": "",
        "‡": "",
        "ß": "ss",
        "æ": "ae",
        "Æ": "Ae",
        "œ": "oe",
        "Œ": "Oe",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "Đ": "D",
        "ð": "th",
        "Ð": "Th",
        "þ": "th",
        "Þ": "Th",
        "ı": "i",
        "µ": "μ",
        "，": ",",
        "。": ".",
        "！": "!",
        "？": "?",
        "、": ",",
        "；": ",",
        "：": ",",
        "×": "×",
        "÷": "÷",
    }
)

# Symbols that are spoken as words in every context.
_SPOKEN_SYMBOLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "&": "and",
        "@": "at",
        "+": "plus",
        "=": "equals",
        "%": "percent",
        "$": "dollars",
        "£": "pounds",
        "€": "euros",
        "¥": "yen",
        "₹": "rupees",
        "¢": "cents",
        "°": "degrees",
        "±": "plus or minus",
        "×": "times",
        "÷": "divided by",
        "≈": "about",
        "≤": "at most",
        "≥": "at least",
        "≠": "is not",
        "§": "section",
        "\\": "backslash",
        "²": "squared",
        "³": "cubed",
        "∞": "infinity",
        "√": "square root of",
        "π": "pi",
        "μ": "micro",
    }
)
_BRACKETS: Final = str.maketrans(
    {mark: "," for mark in "()[]{}<>|;:—"} | {"–": ",", '"': None, "_": " ", "^": " ", "~": " "}
)
_READABLE: Final = re.compile(r"[A-Za-z!?…,.'\- ]*", re.ASCII)
_UNREADABLE_RUN: Final = re.compile(r"([^\x00-\x7f²³…–—£€¥₹¢°±×÷≈≤≥≠§∞√πμ]+)")
_SHOUTED_WORDS: Final = 3
# Words that begin with an apostrophe; before any other word it is a quotation mark.
_CLIPPED_WORDS: Final = r"(?i:em|til|cause|bout|tis|twas|n|round)\b"


def normalise_english(text: str) -> str:
    """Return the text as it is spoken; see EnglishFrontEnd.normalise."""
    check_length(text)
    unreadable = "".join(
        dict.fromkeys(character for character in unicodedata.normalize("NFC", text) if _is_foreign(character))
    )
    if unreadable:
        raise TextError(
            ReasonCode.UNREADABLE_CHARACTER, f"{character_name(unreadable[0])} cannot be read in English", unreadable
        )
    return _normalise_folded(_fold_characters(text))


def split_unreadable(text: str) -> list[tuple[str, bool]]:
    """Split a text into (part, readable): readable parts are normalised, the others are runs of foreign letters."""
    pieces = []
    for part in _UNREADABLE_RUN.split(_fold_characters(text)):
        if _UNREADABLE_RUN.fullmatch(part):
            pieces.append((part, False))
        elif any(character.isalnum() or character in _SPOKEN_SYMBOLS for character in part):
            try:
                pieces.append((_normalise_folded(part), True))
            except TextError:
                pieces.append((part.strip(), False))
    return pieces


def _normalise_folded(text: str) -> str:
    if _is_shouted(text):
        text = re.sub(r"[A-Z]{2,}|\bA\b", lambda match: match.group().lower(), text)
    text = re.sub(r"(?<=\d)\s?–\s?(?=[\d$£€.])", "-", text)
    text = expand_abbreviations(text)
    text = expand_numbers(text)
    text = _speak_symbols(text)
    text = _normalise_pauses(text)
    _check_readable(text)
    return text


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    """Return the ASCII form of a character, or the character if it has none."""
    if character in _BEFORE_FOLDING:
        return _BEFORE_FOLDING[character]
    if character.isspace():
        return " "
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Mn"):
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    decomposed = unicodedata.normalize("NFKD", character)
    folded = "".join(_BEFORE_FOLDING.get(part, part) for part in decomposed if unicodedata.category(part) != "Mn")
    folded = folded.replace("⁄", "/")
    # "1½" is one and a half, not eleven halves.
    return f" {folded}" if category == "No" and "/" in folded else folded


def _fold_characters(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text.replace("`", "'")
    return "".join(_fold_character(character) for character in unicodedata.normalize("NFC", text))


def _is_shouted(text: str) -> bool:
    words = re.findall(r"[A-Za-z]{2,}", text)
    return len(words) >= _SHOUTED_WORDS and all(word.isupper() for word in words)


def _speak_symbols(text: str) -> str:
    if re.fullmatch(r"(?:[A-Za-z!?,' ]|\.(?![a-z]))*", text):
        return text
    text = re.sub(r"(?<!\S)\*(?!\S)", " star ", text)
    text = re.sub(r"(?<!\S)#(?![\w#])", " pound ", text)
    text = re.sub(r"#(?=\w)", "hashtag ", text)
    text = re.sub(r"(?<=[a-z])\.(?=[a-z])", " dot ", text)
    text = text.replace("and/or", "and or")
    text = re.sub(r"(?<=\w)\s?/\s?(?=\w)", " slash ", text)
    text = re.sub(r"(?<=\s)<(?=\s)", "less than", text)
    text = re.sub(r"(?<=\s)>(?=\s)", "greater than", text)
    text = re.sub(r"[*#/]", " ", text)
    text = "".join(f" {_SPOKEN_SYMBOLS[mark]} " if mark in _SPOKEN_SYMBOLS else mark for mark in text)
    return text


def _normalise_pauses(text: str) -> str:
    """Attach single pause marks to the preceding word; keep hyphens only inside words."""
    text = re.sub(r"--+|(?<=\s)-+(?=\s)|^-+|-+$", ",", text)
    text = re.sub(r"[\s()\[\]{}<>\"]+$", "", text).translate(_BRACKETS)
    text = re.sub(r"\.{2,}|(?:\.\s){2,}\.", "…", text)
    text = re.sub(r"(?<![A-Za-z])-|-(?![A-Za-z])", " ", text)
    text = re.sub(rf"(?<![A-Za-z])'(?!{_CLIPPED_WORDS})|'(?![A-Za-z])", " ", text)
    text = re.sub(r"[!?…,.](?:\s*[!?…,.])+", _strongest_mark, text)
    text = re.sub(r"\s*([!?…,.])\s*", r"\1 ", text)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r"^[\s!?…,.'-]+(?=[A-Za-z])|\s+$", "", text)


def _strongest_mark(match: re.Match[str]) -> str:
    return next(mark for mark in "?!….," if mark in match.group())


@lru_cache(maxsize=4096)
def _is_foreign(character: str) -> bool:
    """Return whether a character has no form in English text."""
    return not character.isascii() and _UNREADABLE_RUN.search(_fold_character(character)) is not None


def _check_readable(text: str) -> None:
    if not _READABLE.fullmatch(text):
        left = "".join(dict.fromkeys(character for character in text if not _READABLE.fullmatch(character)))
        raise TextError(ReasonCode.UNREADABLE_CHARACTER, f"{character_name(left[0])} cannot be read in English", left)
    if not re.search(r"[A-Za-z]", text):
        raise TextError(ReasonCode.EMPTY, "no letters, digits or symbols that are spoken")
