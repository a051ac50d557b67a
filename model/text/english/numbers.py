"""English number expansion: everything that contains a digit, from dates to telephone numbers.

num2words spells cardinals and ordinals; this module decides what a number is (a year, a price, a telephone number).
wetext was measured for the same purpose and rejected: 190 lines per second against several thousand, $3.50 read as
"three point five dollars", ranges of years and telephone numbers read as quantities.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from num2words import num2words

from model.text.english.units import CURRENCIES, MAGNITUDES, UNITS

NUMBER: Final = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"

_DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_LONGEST_CARDINAL_DIGITS: Final = 9
_LONGEST_GROUPED_DIGITS: Final = 15

MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_MONTH: Final = (
    r"(?P<month>January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\b\.?)"
)
_MERIDIEM: Final = r"(?P<meridiem>[ap])(?:\.\s?m\b\.?|m\b)"
_END_OF_SENTENCE: Final = re.compile(r"\s*$|\s+[A-Z]")

_UNIT: Final = "|".join(sorted((re.escape(unit) for unit in UNITS), key=len, reverse=True))

_DENOMINATORS: Final[Mapping[int, str]] = MappingProxyType({2: "half", 4: "quarter"})
_SET_FRACTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {"24/7": "twenty-four seven", "9/11": "nine eleven", "50/50": "fifty fifty"}
)


@lru_cache(maxsize=20_000)
def cardinal(value: int) -> str:
    """Return a whole number in words: 1234 → "one thousand two hundred thirty-four"."""
    return _plain(num2words(value))


@lru_cache(maxsize=5_000)
def ordinal(value: int) -> str:
    """Return the ordinal of a whole number: 21 → "twenty-first"."""
    return _plain(num2words(value, to="ordinal"))


@lru_cache(maxsize=5_000)
def year(value: int) -> str:
    """Return a year in words: 1999 → "nineteen ninety-nine", 1905 → "nineteen oh five", 2005 → "two thousand five"."""
    return _plain(num2words(value, to="year")).replace("oh-", "oh ")


def _plain(words: str) -> str:
    return words.replace(",", "").replace(" and ", " ")


def digit_by_digit(digits: str) -> str:
    """Return the name of each digit: "404" → "four zero four"; other characters are ignored."""
    return " ".join(_DIGITS[int(digit)] for digit in digits if digit.isdigit())


def spell_number(figure: str) -> str:
    """Return a figure such as "1,234", "0.25" or "1999" in words, in its most likely meaning."""
    whole, _, decimals = figure.partition(".")
    grouped = "," in whole
    whole = whole.replace(",", "")
    if decimals:
        return f"{_whole_number(whole or '0', grouped=True)} point {digit_by_digit(decimals)}"
    return _whole_number(whole, grouped)


def _whole_number(digits: str, grouped: bool) -> str:
    if len(digits) > (_LONGEST_GROUPED_DIGITS if grouped else _LONGEST_CARDINAL_DIGITS):
        return digit_by_digit(digits)
    if len(digits) > 1 and digits[0] == "0":
        return digit_by_digit(digits)
    value = int(digits)
    return year(value) if not grouped and 1100 <= value <= 2099 else cardinal(value)


def expand_numbers(text: str) -> str:
    """Return the text with every digit spoken. Digits are ASCII and minus signs are hyphens at this point."""
    if not re.search(r"\d", text):
        return text
    for pattern, replace in _rules():
        text = pattern.sub(replace, text)
    return text


Match = re.Match[str]


@lru_cache(maxsize=1)
def _rules() -> tuple[tuple[re.Pattern[str], Callable[[Match], str]], ...]:
    """Return the rules, most specific first: each consumes digits that a later rule would read as plain numbers."""
    number = f"(?:{NUMBER})"
    currency = "[" + "".join(CURRENCIES) + "]"
    magnitude = r"(?:\s?(?P<magnitude>thousand|million|billion|trillion|[kKmMbB]|mm|bn|tn)\b)?"
    rules: list[tuple[str, Callable[[Match], str]]] = [
        (r"\b802\.11(?:\s?(?P<letter>[a-z]{1,2}))?\b", _wireless_standard),
        (r"\b(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])-(?P<day>0[1-9]|[12]\d|3[01])\b", _date_of_figures),
        (
            r"\b(?P<month>0?[1-9]|1[0-2])/(?P<day>0?[1-9]|[12]\d|3[01])/(?P<year>\d{4}|\d\d)\b",
            _date_of_figures,
        ),
        (
            rf"\b{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?![:%./]\d)(?:(?P<comma>,)?\s+(?P<year>\d{{4}})\b)?",
            _date_of_words,
        ),
        (
            rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:,?\s+(?P<year>\d{{4}})\b)",
            _day_first_date,
        ),
        (
            rf"\b(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?(?:\s?{_MERIDIEM})?",
            _time,
        ),
        (rf"\b(?P<hour>1[0-2]|[1-9])\s?{_MERIDIEM}", _time),
        (
            rf"(?P<currency>{currency})(?P<low>{number})-{currency}?(?P<high>{number})",
            lambda match: f"{match['low']} to {match['currency']}{match['high']}",
        ),
        (rf"(?P<sign>-)?(?P<currency>{currency})\s?(?P<amount>{number}){magnitude}", _money),
        (rf"(?<![\w.])(?P<sign>-)?(?P<amount>{number}){magnitude}\s?(?P<currency>{currency})", _money),
        (r"(?<![\w.])(?:\+?1[-. ])?\(?\d{3}\)?[-. ]\s?\d{3}[-. ]\d{4}(?![\w-])", _telephone),
        (r"(?<![\w.-])\d{3}-\d{4}(?![\w-])", _telephone),
        (r"(?<![\w])\+\d{1,3}(?:[ -]\d{2,4}){2,}(?!\w)", _telephone),
        (r"\b\d+(?:\.\d+){2,}\b", _dotted),
        (
            r"(?i)\b(?P<cue>extension|ext|password|pin|code|dial|passcode)(?P<gap>\s+(?:number\s+|is\s+)?)(?P<digits>\d{3,})\b(?![.,/:-]\d)",
            _identifier,
        ),
        (r"\b[A-Z]\.(?P<digits>\d{3})\b", _recommendation),
        (
            r"(?<![\w/.])(?P<fraction>24/7|9/11|50/50)(?![\w/])",
            lambda match: _SET_FRACTIONS[match["fraction"]],
        ),
        (r"(?<![\w/.])(?:(?P<whole>\d+)\s+)?(?P<over>\d{1,3})/(?P<under>\d{1,3})(?![\w/])", _fraction),
        (rf"(?<![\w.-])(?P<low>{number})\s?-\s?(?P<high>{number})(?![\w-]*-\d)(?=\D|$)", _range),
        (r"(?<![\w.])-(?=\.?\d)", lambda match: "minus "),
        (r"\b(?P<tens>\d{3}0)'?s\b", lambda match: _plural(year(int(match["tens"])))),
        (r"(?<!\w)'?(?P<tens>[2-9]0)'?s\b", lambda match: _plural(cardinal(int(match["tens"])))),
        (
            r"\b(?P<value>(?:\d{1,3}(?:,\d{3})+|\d{1,12}))(?:st|nd|rd|th)\b",
            lambda match: ordinal(int(match["value"].replace(",", ""))),
        ),
        (rf"(?P<amount>{number})\s?%", lambda match: spell_number(match["amount"]) + " percent"),
        (rf"(?<![\w])(?P<amount>{number})(?:\s?|-)(?P<unit>{_UNIT})(?![\w/²³°]|\.\w)", _measure),
        (r"(?<=\d)k\b", lambda match: " thousand"),
        (r"(?<=\d)\s?\*\s?(?=\d)", lambda match: " times "),
        (r"(?<=\d)(?<!\b0)\s?x\s?(?=\d)", lambda match: " by "),
        (r"#\s?(?=\d)", lambda match: "number "),
        (r"(?i)\bno\.\s?(?=\d)", lambda match: "number "),
        (r"(?<=[A-Za-z])-(?=\d)", lambda match: " "),
        (
            rf"(?P<before>[A-Za-z])?(?P<amount>{number})(?:(?P<after>[A-Za-z])(?P<more>[A-Za-z])?)?",
            _plain_number,
        ),
    ]
    return tuple((re.compile(pattern, re.ASCII), replace) for pattern, replace in rules)


def _wireless_standard(match: Match) -> str:
    return "eight oh two dot eleven" + "".join(f" {letter.upper()}" for letter in match["letter"] or "")


def _year_words(figures: str) -> str:
    value = int(figures)
    if len(figures) == 2:
        return year(2000 + value) if value < 50 else year(1900 + value)
    return year(value) if value >= 1100 else cardinal(value)


def _month_name(written: str) -> str:
    return next(month for month in MONTHS if month.startswith(written[:3]))


def _date_of_figures(match: Match) -> str:
    return f"{MONTHS[int(match['month']) - 1]} {ordinal(int(match['day']))}, {_year_words(match['year'])}"


def _date_of_words(match: Match) -> str:
    day = int(match["day"])
    spoken_day = ordinal(day) if 1 <= day <= 31 else cardinal(day)
    spoken_year = f", {_year_words(match['year'])}" if match["year"] else ""
    return f"{_month_name(match['month'])} {spoken_day}{spoken_year}"


def _day_first_date(match: Match) -> str:
    day = int(match["day"])
    spoken_day = f"{ordinal(day)} of" if 1 <= day <= 31 else cardinal(day)
    return f"{spoken_day} {_month_name(match['month'])}, {_year_words(match['year'])}"


def _time(match: Match) -> str:
    groups = match.groupdict()
    hour, minute, second = int(groups["hour"]), groups.get("minute"), groups.get("second")
    meridiem = groups.get("meridiem")
    words = [cardinal(hour)]
    if minute is not None and int(minute):
        words.append(cardinal(int(minute)) if minute[0] != "0" else f"oh {cardinal(int(minute))}")
    elif minute is not None and not meridiem and second is None:
        words.append("o'clock" if 1 <= hour <= 12 else "hundred")
    if second is not None:
        words.append(f"and {cardinal(int(second))} seconds")
    if meridiem:
        words.append(f"{meridiem.upper()} M")
        # The dot of "at ten a.m." also ends the sentence.
        if match.group().endswith(".") and _END_OF_SENTENCE.match(match.string, match.end()):
            return " ".join(words) + "."
    return " ".join(words)


def _money(match: Match) -> str:
    one, many, one_hundredth, hundredths = CURRENCIES[match["currency"]]
    sign = "minus " if match["sign"] else ""
    amount, magnitude = match["amount"].replace(",", ""), match["magnitude"]
    if magnitude:
        scale = MAGNITUDES.get(magnitude.lower(), magnitude.lower())
        return f"{sign}{_quantity(amount)} {scale} {many}"
    whole, _, decimals = amount.partition(".")
    if len(decimals) != 2 or not hundredths:
        return f"{sign}{_quantity(amount)} {one if amount == '1' else many}"
    parts = []
    if int(whole or 0) or not int(decimals):
        parts.append(f"{_quantity(whole or '0')} {one if whole == '1' else many}")
    if int(decimals):
        parts.append(f"{cardinal(int(decimals))} {one_hundredth if int(decimals) == 1 else hundredths}")
    return sign + " and ".join(parts)


def _quantity(figure: str) -> str:
    """Return a figure in words as an amount, never as a year."""
    whole, _, decimals = figure.replace(",", "").partition(".")
    words = _whole_number(whole or "0", grouped=True)
    return f"{words} point {digit_by_digit(decimals)}" if decimals else words


def _telephone(match: Match) -> str:
    return ", ".join(digit_by_digit(group) for group in re.findall(r"\d+", match.group()))


def _dotted(match: Match) -> str:
    """Return versions and addresses in words: groups of three or more digits one by one, shorter ones as numbers."""
    parts = match.group().split(".")
    return " dot ".join(digit_by_digit(part) if len(part) > 2 else cardinal(int(part)) for part in parts)


def _identifier(match: Match) -> str:
    """Return numbers that name rather than count in words: 1234 digit by digit, 8500 "eighty-five hundred"."""
    digits = match["digits"]
    rounded = digits.endswith("00") and not digits.endswith("000") and len(digits) in (3, 4) and digits[0] != "0"
    spoken = f"{cardinal(int(digits[:-2]))} hundred" if rounded else digit_by_digit(digits)
    return f"{match['cue']}{match['gap']}{spoken}"


def _recommendation(match: Match) -> str:
    """Return telephony standards in words: H.323 is "H three twenty-three"."""
    digits = match["digits"]
    rest = cardinal(int(digits[1:])) if digits[1] != "0" else digit_by_digit(digits[1:])
    return f"{match.group()[0]} {cardinal(int(digits[0]))} {rest}"


def _fraction(match: Match) -> str:
    over, under = int(match["over"]), int(match["under"])
    whole = f"{cardinal(int(match['whole']))} and " if match["whole"] else ""
    if not 2 <= under <= 100 or over == 0:
        return f"{whole}{cardinal(over)} over {cardinal(under)}"
    part = _DENOMINATORS.get(under) or ordinal(under)
    if over != 1:
        part = "halves" if under == 2 else f"{part}s"
    return f"{'a' if whole and over == 1 and under == 2 else cardinal(over)} {part}".join((whole, ""))


def _range(match: Match) -> str:
    return f"{match['low']} to {match['high']}"


def _plural(number: str) -> str:
    if number.endswith("y"):
        return number[:-1] + "ies"
    return number + ("es" if number.endswith("x") else "s")


def _measure(match: Match) -> str:
    amount = match["amount"]
    if len(match["unit"]) == 1 and re.match(r" [A-Z]\b", match.string[match.end() :]):
        return match.group()  # "2 V M": initials, not volts
    singular, plural = UNITS[match["unit"]]
    joined_by_hyphen = match.group()[len(amount)] == "-"
    return f"{_quantity(amount)} {singular if amount == '1' or joined_by_hyphen else plural}"


def _plain_number(match: Match) -> str:
    """Return a number that no other rule matched, separated from adjacent letters; a lone letter after it is spelled
    out.
    """
    spoken = spell_number(match["amount"])
    before = f"{match['before']} " if match["before"] else ""
    if match["after"] is None:
        return before + spoken
    if match["more"] is not None:
        return f"{before}{spoken} {match['after']}{match['more']}"
    letters_follow = match.string[match.end() : match.end() + 1].isalnum()
    gap = " " if letters_follow else ""
    if before and match["after"] == "s" and not letters_follow:
        return before + _plural(spoken)
    return f"{before}{spoken} {match['after'].upper()}" + gap
