"""Japanese number expansion: dates, times, telephone numbers, money, measures and plain numbers to kanji numerals.

OpenJTalk reads kanji numerals with their counters best (三本 sambon, 二十日 hatsuka), and unlike a reading in kana they
still match the tokens of the text encoder.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_DIGITS: Final = "零一二三四五六七八九"
_GROUP_UNITS: Final = ("", "万", "億", "兆", "京")
_PLACE_UNITS: Final = ("千", "百", "十", "")
_MAX_DIGITS: Final = 4 * len(_GROUP_UNITS)

_NUMBER: Final = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
_NOT_AFTER_NUMBER: Final = r"(?<![\d.,])"
_LARGE_UNITS: Final = "万億兆"

_CURRENCIES: Final[Mapping[str, str]] = MappingProxyType(
    {"¥": "円", "\\": "円", "$": "ドル", "€": "ユーロ", "£": "ポンド", "₩": "ウォン"}
)

# Units written after a number; the longest spelling is tried first. Single capitals that are as often a name as a unit
# (A, B, V, W) are read as letters.
_UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "%": "パーセント",
        "‰": "パーミル",
        "°C": "度",
        "℃": "度",
        "°F": "度",
        "°": "度",
        "km/h": "キロメートル毎時",
        "m/s": "メートル毎秒",
        "km": "キロメートル",
        "cm": "センチメートル",
        "mm": "ミリメートル",
        "nm": "ナノメートル",
        "μm": "マイクロメートル",
        "m": "メートル",
        "km²": "平方キロメートル",
        "m²": "平方メートル",
        "cm²": "平方センチメートル",
        "m³": "立方メートル",
        "cm³": "立方センチメートル",
        "ha": "ヘクタール",
        "kg": "キログラム",
        "mg": "ミリグラム",
        "g": "グラム",
        "ml": "ミリリットル",
        "mL": "ミリリットル",
        "dl": "デシリットル",
        "dL": "デシリットル",
        "l": "リットル",
        "L": "リットル",
        "cc": "シーシー",
        "kHz": "キロヘルツ",
        "MHz": "メガヘルツ",
        "GHz": "ギガヘルツ",
        "Hz": "ヘルツ",
        "dB": "デシベル",
        "fps": "エフピーエス",
        "kW": "キロワット",
        "kWh": "キロワット時",
        "kcal": "キロカロリー",
        "cal": "カロリー",
        "hPa": "ヘクトパスカル",
        "KB": "キロバイト",
        "MB": "メガバイト",
        "GB": "ギガバイト",
        "TB": "テラバイト",
        "ms": "ミリ秒",
        "min": "分",
        "sec": "秒",
    }
)
_UNIT_PATTERN: Final = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))

# OpenJTalk's dictionary has words that are written like these minutes but mean something else (十分 "enough", 五分
# "half"); kana avoids them.
_MINUTES_IN_KANA: Final[Mapping[str, str]] = MappingProxyType(
    {"5": "五ふん", "8": "八ふん", "10": "じゅっぷん", "12": "十二ふん"}
)

_RANGE_MARK: Final = r"\s?[〜–]\s?"


def integer_in_kanji(number: int) -> str:
    """Return a number (0 ≤ number < 10^20) in kanji numerals, with the 一 of "一千万" as it is spoken."""
    if number == 0:
        return "ゼロ"
    written = ""
    for unit in _GROUP_UNITS:
        number, group = divmod(number, 10_000)
        if group:
            written = _group_in_kanji(group, spoken_one=bool(unit)) + unit + written
    return written


def _group_in_kanji(group: int, spoken_one: bool) -> str:
    written = ""
    for digit, unit in zip(f"{group:04d}", _PLACE_UNITS, strict=True):
        if digit == "0":
            continue
        silent_one = digit == "1" and unit and not (unit == "千" and spoken_one)
        written += ("" if silent_one else _DIGITS[int(digit)]) + unit
    return written


def digit_by_digit(digits: str) -> str:
    """Return each digit as a numeral, as telephone numbers are read."""
    return "".join(_DIGITS[int(digit)] for digit in digits)


def number_in_kanji(written: str, before_large_unit: bool = False) -> str:
    """Return a number in ASCII digits (commas between thousands, one decimal point) in kanji numerals.

    Leading zeros, or more digits than there are units, make it a sequence of single digits.
    """
    whole, _, decimals = written.replace(",", "").partition(".")
    if (len(whole) > 1 and whole[0] == "0") or len(whole) > _MAX_DIGITS:
        numeral = digit_by_digit(whole)
    elif decimals and int(whole) == 0:
        numeral = "零"
    elif before_large_unit and not decimals and len(whole) <= len(_PLACE_UNITS):
        numeral = _group_in_kanji(int(whole), spoken_one=True) or "ゼロ"
    else:
        numeral = integer_in_kanji(int(whole))
    return f"{numeral}点{digit_by_digit(decimals)}" if decimals else numeral


def expand_numbers(text: str) -> str:
    """Return the text without ASCII digits. Every rule rewrites the patterns it knows; the last reads the rest as
    numbers.
    """
    if not re.search(r"[\d〇]", text):
        return text
    text = _expand_telephone_numbers(text)
    text = _expand_dates(text)
    text = _expand_times_and_ratios(text)
    text = _expand_fractions(text)
    text = _expand_signs_and_ranges(text)
    text = _expand_money(text)
    text = re.sub(
        rf"{_NOT_AFTER_NUMBER}(5|8|12|(?<!時)10(?!分間))分(?!の\s?\d|の[一二三四五六七八九])",
        lambda match: _MINUTES_IN_KANA[match[1]],
        text,
    )
    text = re.sub(
        r"\d+(?:\.\d+){2,}", lambda match: "点".join(number_in_kanji(part) for part in match[0].split(".")), text
    )
    return re.sub(rf"({_NUMBER})(?=([{_LARGE_UNITS}])?)", lambda match: number_in_kanji(match[1], bool(match[2])), text)


def expand_units(text: str) -> str:
    """Return the text with units of measure after a number, and "No." before one, in Japanese; the digits stay."""
    text = re.sub(rf"(?<=\d)\s?({_UNIT_PATTERN})(?![A-Za-z²³])", lambda match: _UNITS[match[1]], text)
    return re.sub(r"(?<![A-Za-z])[Nn]o\.?\s?(?=\d)", "ナンバー", text)


def _expand_telephone_numbers(text: str) -> str:
    """Expand groups of digits that look like telephone or postal numbers digit by digit, with pauses between them."""

    def read(match: re.Match[str]) -> str:
        groups = [digit_by_digit(group) for group in re.findall(r"\d+", match[0])]
        return ("プラス" if match[0].startswith("+") else "") + ",".join(groups)

    text = re.sub(r"〒\s?(?=\d)", "郵便番号,", text)
    text = re.sub(r"(?<=郵便番号,)\d{3}-?\d{4}(?!\d)", read, text)
    text = re.sub(r"(?<![\d.,/-])\d{3}-\d{4}(?![\d-])", read, text)
    text = re.sub(
        r"(?<![\d.,/-])(?:\+\d{1,3}[- ]?\(?0?\)?\d{1,4}|\(0\d{1,4}\)|0\d{1,4})[- ]?\d{1,4}-\d{3,4}(?![\d-])", read, text
    )
    return re.sub(r"(?<![\d.,/-])(?:0\d{1,4}|\(0\d{1,4}\)) \d{1,4} \d{3,4}(?![\d-])", read, text)


def _date(month: str, day: str) -> str | None:
    return f"{int(month)}月{int(day)}日" if 1 <= int(month) <= 12 and 1 <= int(day) <= 31 else None


def _expand_dates(text: str) -> str:
    def full_date(match: re.Match[str]) -> str:
        date = _date(match[3], match[4])
        return f"{int(match[1])}年{date}" if date else match[0]

    def month_and_day(match: re.Match[str]) -> str:
        # "1/2" is a half unless a date's particle follows; "12/25" and "5/1" are dates, not fractions.
        looks_like_date = bool(match[3]) or int(match[1]) >= int(match[2]) or int(match[2]) > 12
        date = _date(match[1], match[2]) if looks_like_date else None
        return (date or f"{match[1]}/{match[2]}") + (match[3] or "")

    text = re.sub(r"(?<![\d/.-])(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?![\d/-])", full_date, text)
    text = re.sub(
        r"(?<![\d/.-])((?:19|20)\d\d)/(0?[1-9]|1[0-2])(?![\d/])", lambda match: f"{match[1]}年{int(match[2])}月", text
    )
    text = re.sub(r"(?<![\d/.-])(\d{1,2})/(\d{1,2})(?![\d/])(に|から|まで|\()?", month_and_day, text)
    # The digits of a year in kanji, "二〇二四年".
    return re.sub(
        r"[一二三四五六七八九][〇零一二三四五六七八九]{3}(?=年)",
        lambda match: "".join(str(max(0, "〇一二三四五六七八九".find(digit))) for digit in match[0]),
        text,
    )


def _expand_times_and_ratios(text: str) -> str:
    def time(match: re.Match[str]) -> str:
        hours, minutes, seconds = int(match[1]), int(match[2]), match[3]
        if hours > 29 or minutes > 59:
            return match[0]
        return f"{hours}時" + (f"{minutes}分" if minutes or seconds else "") + (f"{int(seconds)}秒" if seconds else "")

    text = re.sub(r"(?<![\d:.,])(\d{1,2}):(\d{2})(?::([0-5]\d))?(?![\d:])", time, text)
    return re.sub(r"(?<=\d)\s?:\s?(?=\d)", "対", text)


def _expand_fractions(text: str) -> str:
    return re.sub(
        r"(?<![\d/.,])(\d+)\s?[/⁄]\s?(\d+)(?![\d/])",
        lambda match: f"{number_in_kanji(match[2])}分の{number_in_kanji(match[1])}",
        text,
    )


def _expand_signs_and_ranges(text: str) -> str:
    text = re.sub(rf"(?<=[\d%℃年月日時分秒円人]){_RANGE_MARK}(?=[\d¥$€£])", "から", text)
    text = re.sub(r"(?<=[一二三四五六七八九十百千万])〜(?=[一二三四五六七八九十百千万])", "から", text)
    # Three or more numbers are an address, whose hyphens are spoken.
    text = re.sub(r"(?<![\d-])\d+(?:-\d+){2,}(?![\d-])", lambda match: match[0].replace("-", "の"), text)
    return re.sub(r"(?<![\w\d)-])[-−](?=[\d¥$€£])|−(?=\d)", "マイナス", text)


def _expand_money(text: str) -> str:
    def money(match: re.Match[str]) -> str:
        large = match[3] or ""
        return number_in_kanji(match[2], bool(large)) + large + _CURRENCIES[match[1]]

    text = re.sub(rf"([¥\\$€£₩])\s?({_NUMBER})([{_LARGE_UNITS}])?", money, text)
    return re.sub(rf"(?<=[\d{_LARGE_UNITS}])([€£₩])", lambda match: _CURRENCIES[match[1]], text)
