"""Mandarin text normalisation: characters, Latin words, numbers, symbols, then pauses."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from model.text.errors import ReasonCode, TextError, character_name, check_length
from model.text.mandarin.numbers import expand_numbers

KANA: Final = "\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fc-\u30fe"
HAN: Final = "\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af"

# Punctuation → pause marks.
_PAUSES: Final = str.maketrans(
    {mark: "," for mark in "，、；：;:·•・|"}
    | {"。": ".", "．": ".", "！": "!", "？": "?", "—": "-", "–": "-", "―": "-", "~": "-", "\n": ","}
    | {mark: "'" for mark in '“”‘’"«»‹›「」『』〈〉《》（）()[]{}【】〔〕〖〗‚„<>`'}
    | {"^": None, "_": " ", "\\": " ", "*": None, "#": None}
)
# Characters that NFKC changes wrongly or not at all. Only characters beyond ASCII.
_BEFORE_FOLDING: Final[Mapping[str, str]] = MappingProxyType(
    {
        character: character
        for character in "，、；：。！？—–―…“”‘’«»‹›「」『』〈〉《》（）【】〔〕〖〗‚„·•²³÷×€£₩₽฿₹‰≈≤≥≠∞√°μ"
    }
    | {
        "℃": "°C",
        "℉": "°F",
        "％": "%",
        "￥": "¥",
        "¥": "¥",
        "～": "~",
        "〜": "~",
        "∼": "~",
        "−": "-",
        "‐": "-",
        "‑": "-",
        "‒": "-",
        "－": "-",
        "⋯": "…",
        "‧": "·",
        "∙": "·",
        "⋅": "·",
        "․": ".",
        "｡": "。",
        "､": "、",
        "〝": "“",
        "〞": "”",
        "＂": '"',
        "＇": "'",
        "¡": "",
        "¿": "",
        "™": "",
        "®": "",
        "©": "",
        "℠": "",
        "→": ",",
        "←": ",",
        "⇒": ",",
        "↑": ",",
        "↓": ",",
        "●": "",
        "○": "",
        "■": "",
        "□": "",
        "◆": "",
        "◇": "",
        "★": "",
        "☆": "",
        "▲": "",
        "△": "",
        "▼": "",
        "※": "",
        "♪": "",
        "♥": "",
        "❤": "",
        "µ": "μ",
        "Ω": "Ω",
        "嗯": "恩",
        "呣": "母",
        "〇": "零",
        "№": "编号",
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "Æ": "Ae",
        "Œ": "Oe",
        "Ø": "O",
        "Ł": "L",
        "Đ": "D",
        "ı": "i",
        "㎡": "m²",
        "㎥": "m³",
        "㎢": "km²",
        "㎠": "cm²",
        "㎜": "mm",
    }
)
# Symbols that are spoken as words unless a number rule has consumed them.
_SPOKEN_SYMBOLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "%": "百分号",
        "‰": "千分号",
        "&": "和",
        "@": " at ",
        "+": "加",
        "=": "等于",
        "×": "乘",
        "÷": "除以",
        "±": "正负",
        "≈": "约等于",
        "≤": "小于等于",
        "≥": "大于等于",
        "≠": "不等于",
        "∞": "无穷大",
        "√": "根号",
        "°": "度",
        "²": "的平方",
        "³": "的立方",
        "$": "美元",
        "¥": "元",
        "€": "欧元",
        "£": "英镑",
        "₩": "韩元",
        "₽": "卢布",
        "฿": "泰铢",
        "₹": "卢比",
        "§": "第",
        "α": "阿尔法",
        "β": "贝塔",
        "γ": "伽马",
        "δ": "德尔塔",
        "Δ": "德尔塔",
        "ε": "艾普西隆",
        "θ": "西塔",
        "λ": "兰姆达",
        "μ": "缪",
        "π": "派",
        "ρ": "柔",
        "σ": "西格玛",
        "Σ": "西格玛",
        "φ": "斐",
        "ω": "欧米伽",
        "Ω": "欧姆",
    }
)
_PLAIN: Final = re.compile("[\u4e00-\u55ee\u55f0-\u9fa5，。！？、；：“”‘’（）《》…—]*")
_FOLDED: Final = re.compile(
    f"[{HAN}{KANA}々\\x20-\\x7e\n{re.escape(''.join(_BEFORE_FOLDING) + ''.join(_SPOKEN_SYMBOLS))}]*"
)
_IDEOGRAPH: Final = re.compile(f"[{HAN}]")
_HALF_WIDTH_KANA: Final = re.compile("[\uff66-\uff9f]+")
_THOUSANDS: Final = re.compile(
    r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|(?<![０-９．，])[０-９]{1,3}(?:[，,][０-９]{3})+(?![０-９])"
)
_ADDRESS: Final = re.compile(
    r"(?:https?://|www\.)[A-Za-z0-9./%?=&_~:+-]*[A-Za-z0-9]|[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
)
_ENGLISH_WITH_NUMBERS: Final = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z'’.-]*(?:,? +[A-Za-z][A-Za-z'’.-]*)*"
    r"(?:,? +[$£]?\d[\d.,:]*%?(?:,? +[A-Za-z][A-Za-z'’-]*)+)+(?![A-Za-z0-9])"
)
_LATIN: Final = re.compile(r"[A-Za-z]+(?:[ ]*(?:['’.&-]|, )?[ ]*[A-Za-z]+)*(?:\.(?=[A-Za-z ]|$))?")
# Digits, Roman numerals and numbered marks such as "①"; each is a number, so a space separates them.
_NUMERALS: Final = {"Nd": "{}", "Nl": "{}", "No": "{} "}
_SPELLED: Final = frozenset({"ETC", "ABC", "UFO", "ATM"})
_SPOKEN_CAPITALS: Final = frozenset({"OK", "NO", "HI", "GO", "OH", "MY", "WE", "ME", "DR", "MR", "MS", "SO", "HE"})
_MIN_ENGLISH_WORDS: Final = 3


def normalise_mandarin(text: str, normalise_english: Callable[[str], str], has_reading: Callable[[str], bool]) -> str:
    """Return the text as it is spoken; see MandarinFrontEnd.normalise.

    Latin words go through `normalise_english`; `has_reading` returns whether the dictionary has a Han character.
    """
    check_length(text)
    is_plain = _PLAIN.fullmatch(text) is not None
    _check_readable(text, has_reading)
    if is_plain:
        return _finish(text.translate(_PAUSES))
    text = _fold(text)
    text = _ADDRESS.sub(lambda match: f" {normalise_english(match.group())} ", text)
    text = _ENGLISH_WITH_NUMBERS.sub(lambda match: _normalise_stretch(match.group(), normalise_english), text)
    if any(character.isdecimal() for character in text):
        text = expand_numbers(text)
    text = _LATIN.sub(lambda match: _normalise_latin(match.group(), normalise_english), text)
    text = re.sub(r"\s*\n\s*", "\n", text.strip())
    text = re.sub(r"(?<=[，,。.！!？?；;：:、…])\n", "", text)
    text = re.sub(r"(?<=\w)\s?/\s?(?=\w)", ",", text).replace("/", "")
    text = "".join(_SPOKEN_SYMBOLS.get(character, character) for character in text)
    return _finish(_normalise_spaces(text.translate(_PAUSES)))


def _normalise_latin(words: str, normalise_english: Callable[[str], str]) -> str:
    """Return Latin words in Mandarin text as spoken. Two capitals alone are letters here ("AI技术", "IT行业"), even if
    they are an English word.
    """
    if words in _SPELLED or (len(words) == 2 and words.isupper() and words not in _SPOKEN_CAPITALS):
        return " ".join(words)
    return normalise_english(words.replace("’", "'"))


def _normalise_stretch(stretch: str, normalise_english: Callable[[str], str]) -> str:
    """Return a Latin passage as spoken: English sentences have English numbers; a name before a number does not."""
    words = re.findall(r"[A-Za-z][A-Za-z'’]*", stretch)
    return normalise_english(stretch) if len(words) >= _MIN_ENGLISH_WORDS else stretch


def _check_readable(text: str, has_reading: Callable[[str], bool]) -> None:
    """Raise TextError unreadable_character with all characters that folding and dictionary leave unread."""
    characters = dict.fromkeys(unicodedata.normalize("NFC", text))
    unreadable = "".join(character for character in characters if not _is_readable(character, has_reading))
    if unreadable:
        raise TextError(
            ReasonCode.UNREADABLE_CHARACTER, f"{character_name(unreadable[0])} cannot be read in Mandarin", unreadable
        )


def _is_readable(character: str, has_reading: Callable[[str], bool]) -> bool:
    if _IDEOGRAPH.match(character):
        return has_reading(character) or character in _BEFORE_FOLDING
    folded = _fold_character(character)
    return _FOLDED.fullmatch(folded) is not None and all(map(has_reading, _IDEOGRAPH.findall(folded)))


def _fold(text: str) -> str:
    """Return readable characters in the form that later rules expect: ASCII digits and letters, unified ideographs, no
    control characters.
    """
    text = _THOUSANDS.sub(
        lambda match: match.group().replace(",", "").replace("，", ""), unicodedata.normalize("NFC", text)
    )
    text = _HALF_WIDTH_KANA.sub(lambda match: unicodedata.normalize("NFKC", match.group()), text)
    text = re.sub(r"(?<=\d)(?=[½¼¾⅓⅔⅛⅜⅝⅞⅕])", "又", text)
    folded = re.sub(f"([{HAN}])々", r"\1\1", "".join(map(_fold_character, text)))
    return re.sub(r"\.{3,}|。{3,}|．{3,}", "…", folded)


@lru_cache(maxsize=16384)
def _fold_character(character: str) -> str:
    if character in _BEFORE_FOLDING:
        return _BEFORE_FOLDING[character]
    if character in "\n\r\v\f\x85\u2028\u2029":
        return "\n" if character != "\r" else ""
    if character.isspace():
        return " "
    if unicodedata.name(character, "").startswith("SUPERSCRIPT") and unicodedata.numeric(character, -1) >= 0:
        return f"的{int(unicodedata.numeric(character))}次方"
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Mn", "Me"):
        return ""
    if category in ("Nd", "No", "Nl") and unicodedata.numeric(character, 0.5) % 1 == 0:
        return _NUMERALS[category].format(int(unicodedata.numeric(character)))
    if re.match(f"[{KANA}{HAN}]", character):
        return character
    decomposed = unicodedata.normalize("NFKD", character).replace("⁄", "/")
    if decomposed == character:
        return character
    return "".join(_fold_character(part) for part in decomposed)


def _normalise_spaces(text: str) -> str:
    """Keep spaces only between Latin words; merge adjacent pauses where line ends or marks produced several."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(rf"(?<![A-Za-z,.!?…]) | (?![A-Za-z])|(?<=[^A-Za-z][,.!?…]) (?=[A-Za-z])|^ (?=[{HAN}])", "", text)
    return re.sub(r"(?<=[,.!?…]),+", "", text)


def _finish(text: str) -> str:
    if not re.search(f"[A-Za-z{HAN}{KANA}]", text):
        raise TextError(ReasonCode.EMPTY, "no characters, letters or digits that are spoken")
    return text
