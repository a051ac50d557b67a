"""Expansion of abbreviations, initials, Roman numerals and internet addresses."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from model.text.english.numbers import cardinal, ordinal

Match = re.Match[str]

# Before a name.
_TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Mr": "Mister",
        "Mrs": "Missus",
        "Ms": "Miz",
        "Messrs": "Messrs",
        "Prof": "Professor",
        "Gen": "General",
        "Capt": "Captain",
        "Lt": "Lieutenant",
        "Sgt": "Sergeant",
        "Col": "Colonel",
        "Maj": "Major",
        "Rev": "Reverend",
        "Hon": "Honorable",
        "Sen": "Senator",
        "Rep": "Representative",
        "Gov": "Governor",
        "Pres": "President",
        "Mt": "Mount",
        "Ft": "Fort",
    }
)
# Recognised without a dot.
_DOTLESS_TITLES: Final = frozenset({"Mr", "Mrs", "Ms"})
# Recognised anywhere, with their dot. Keys in lower case.
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "jr": "junior",
        "sr": "senior",
        "ave": "avenue",
        "blvd": "boulevard",
        "rd": "road",
        "hwy": "highway",
        "apt": "apartment",
        "dept": "department",
        "est": "established",
        "vs": "versus",
        "etc": "et cetera",
        "approx": "approximately",
        "inc": "incorporated",
        "ltd": "limited",
        "corp": "corporation",
        "govt": "government",
        "ext": "extension",
        "misc": "miscellaneous",
        "vol": "volume",
        "tel": "telephone",
        "min": "minutes",
        "max": "maximum",
        "no": "number",
        "nos": "numbers",
        "fig": "figure",
        "pp": "pages",
        "p": "page",
    }
)
# An abbreviation only before a number.
_BEFORE_NUMBER: Final = frozenset({"no", "nos", "fig", "pp", "p", "vol", "ext", "est"})
_AFTER_NUMBER: Final = frozenset({"min"})
_WEEKDAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Mon": "Monday",
        "Tue": "Tuesday",
        "Tues": "Tuesday",
        "Wed": "Wednesday",
        "Thu": "Thursday",
        "Thur": "Thursday",
        "Thurs": "Thursday",
        "Fri": "Friday",
        "Sat": "Saturday",
        "Sun": "Sunday",
    }
)
_MONTHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Jan": "January",
        "Feb": "February",
        "Mar": "March",
        "Apr": "April",
        "Jun": "June",
        "Jul": "July",
        "Aug": "August",
        "Sep": "September",
        "Sept": "September",
        "Oct": "October",
        "Nov": "November",
        "Dec": "December",
    }
)
_PHRASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "e.g.": "for example",
        "i.e.": "that is",
        "a.k.a.": "also known as",
        "w/o": "without",
        "w/": "with",
        "wi-fi": "wifi",
    }
)

_ROMAN_CUES: Final = (
    "Chapter|Part|Act|Book|Volume|Section|Scene|Phase|Appendix|World War|Super Bowl|Level|Type|Title|Article|Stage"
)
_RULERS: Final = (
    "Henry|Louis|George|Edward|James|Charles|Richard|William|Elizabeth|John|Paul|Benedict|Pius|Philip|Napoleon"
    "|Alexander|Nicholas|Ivan|Catherine|Frederick|Leo|Francis|Robert|Malcolm|Ferdinand|Wilhelm|Gregory|Clement"
    "|Innocent|Mary|Peter"
)
_ROMAN: Final = r"(?=[IVXLC])(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_ROMAN_VALUES: Final[Mapping[str, int]] = MappingProxyType({"I": 1, "V": 5, "X": 10, "L": 50, "C": 100})
# Spoken form of the punctuation in internet addresses.
_MARK_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "@": "at",
        ".": "dot",
        "/": "slash",
        "_": "underscore",
        "-": "dash",
        "~": "tilde",
        "+": "plus",
        ":": "colon",
        "?": "question mark",
        "=": "equals",
        "%": "percent",
        "&": "and",
        "#": "hash",
    }
)
_TOP_LEVELS: Final = "com|org|net|edu|gov|io|co|uk|de|ai|info|dev|us|ca|fr|app"


def expand_abbreviations(text: str) -> str:
    """Return the text with unambiguous abbreviations expanded. Runs before numbers are expanded."""
    for pattern, replace in _rules():
        text = pattern.sub(replace, text)
    return text


def abbreviation_spans(text: str) -> list[tuple[int, int]]:
    """Return the ranges [start, end) of abbreviations, initials and addresses in a written text. Their dots end no
    sentence.
    """
    return [
        match.span()
        for pattern, replace in _rules()
        for match in pattern.finditer(text)
        if replace(match) != match.group()
    ]


def roman_value(numeral: str) -> int:
    """Return the value of a canonical Roman numeral up to 99: "VIII" → 8."""
    values = [_ROMAN_VALUES[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(-value if value < after else value for value, after in zip(values, following, strict=True))


@lru_cache(maxsize=1)
def _rules() -> tuple[tuple[re.Pattern[str], Callable[[Match], str]], ...]:
    titles = "|".join(_TITLES)
    dotless = "|".join(sorted(_DOTLESS_TITLES))
    words = "|".join(_WORDS)
    days_and_months = "|".join((*_WEEKDAYS, *_MONTHS))
    rules: list[tuple[str, Callable[[Match], str]]] = [
        (r"\b(?P<user>[\w.+-]+)@(?P<host>[\w-]+(?:\.[\w-]+)+)", _address),
        (r"\b(?:https?://|ftp://)(?P<host>[^\s<>\"',;)]*[\w/])", _address),
        (
            rf"(?<![\w@.])(?P<host>(?:www\.)?(?:[A-Za-z0-9-]+\.)+(?:{_TOP_LEVELS})(?:/[\w./~%-]*[\w/])?)(?![\w@])(?!\.\w)",
            _address,
        ),
        (r"(?i)(?<![\w.])(?P<phrase>e\.g\.|i\.e\.|a\.k\.a\.|w/o\b|wi-fi\b|w/)", _phrase),
        (r"\bDr\.?(?=\s+[A-Z])", _doctor_or_drive),
        (r"\bDr\.", _with_sentence_end("Drive")),
        (r"\bSt\.(?=\s+[A-Z])", _saint_or_street),
        (r"\bSt\.", _with_sentence_end("Street")),
        (rf"\b(?P<title>{titles})\.(?=\s+[A-Z])", lambda match: _TITLES[match["title"]]),
        (rf"\b(?P<title>{dotless})\b\.?", lambda match: _TITLES[match["title"]]),
        (rf"(?i)(?<![\w.'])(?P<word>{words})\.(?!\w)", _word),
        # Elsewhere "Sun." and "Sat." are usually words at the end of a sentence.
        (
            rf"\b(?P<word>{days_and_months})\.(?=,|\s+\d)",
            lambda match: _WEEKDAYS.get(match["word"]) or _MONTHS[match["word"]],
        ),
        (r"\bPh\.?D\b\.?", lambda match: "P H D"),
        (
            r"(?<![\w.])(?!(?<=\d\s)[AaPp]\.)(?:[A-Za-z]\.\s?)+[A-Za-z]\.(?!\w)|(?<![\w.])(?!(?<=\d\s)[AaPp]\.)(?:[A-Za-z]\.)+[A-Za-z]\b(?!\.?\w)",
            _initials,
        ),
        (r"(?<![\w.'])(?<!\b[A-Z] )(?P<initial>[B-HJ-Z])\.(?=\s+[A-Z][a-z])", lambda match: match["initial"]),
        (rf"\b(?P<cue>{_ROMAN_CUES})\s+(?P<numeral>{_ROMAN})(?!\w)", _numbered),
        (rf"\b(?P<cue>{_RULERS})\s+(?P<numeral>{_ROMAN})(?!\w)", _ruler),
    ]
    return tuple((re.compile(pattern, re.ASCII), replace) for pattern, replace in rules)


def _at_sentence_end(match: Match) -> bool:
    """Return whether an abbreviation's dot also ends the sentence."""
    return not match.string[match.end() :].strip("\"')] \n\t")


def _with_sentence_end(word: str) -> Callable[[Match], str]:
    return lambda match: word + ("." if _at_sentence_end(match) else "")


def _phrase(match: Match) -> str:
    spoken = _PHRASES[match["phrase"].lower()]
    return spoken if match["phrase"].endswith((".", "o")) else f"{spoken} "


def _word(match: Match) -> str:
    word = match["word"]
    key = word.lower()
    digit_follows = re.match(r"\s?\d", match.string[match.end() :]) is not None
    digit_precedes = re.search(r"\d\s?$", match.string[: match.start()]) is not None
    if (key in _BEFORE_NUMBER and not digit_follows) or (key in _AFTER_NUMBER and not digit_precedes):
        return match.group()
    spoken = _WORDS[key]
    spoken = spoken.capitalize() if word[0].isupper() else spoken
    if key in _BEFORE_NUMBER:
        return spoken + ("" if match.string[match.end() :].startswith(" ") else " ")
    return spoken + ("." if _at_sentence_end(match) else "")


def _capitalised_before(match: Match) -> bool:
    """Return whether a house number or a capitalised word of the same sentence precedes: "on Elm St."."""
    before = match.string[: match.start()].split()
    if not before or before[-1][-1] in ".!?,;:":
        return False
    if before[-1][0].isdigit():
        return True
    starts_sentence = len(before) == 1 or before[-2][-1] in ".!?"
    return before[-1][0].isupper() and not starts_sentence


def _doctor_or_drive(match: Match) -> str:
    return "Drive" if match.group().endswith(".") and _capitalised_before(match) else "Doctor"


def _saint_or_street(match: Match) -> str:
    return "Street" if _capitalised_before(match) else "Saint"


def _initials(match: Match) -> str:
    letters = " ".join(re.findall(r"[A-Za-z]", match.group())).upper()
    trailing = " " if match.group()[-1].isspace() else ""
    return letters + ("." if match.group().endswith(".") and _at_sentence_end(match) else trailing)


def _numbered(match: Match) -> str:
    return f"{match['cue']} {cardinal(roman_value(match['numeral']))}"


def _ruler(match: Match) -> str:
    numeral = match["numeral"]
    # "George I" is a king only where the pronoun cannot stand.
    if numeral == "I" and not re.match(
        r"\s*(?:[,.;!?]|$|(?:was|of|and|is|had|died|became)\b)", match.string[match.end() :]
    ):
        return match.group()
    return f"{match['cue']} the {ordinal(roman_value(numeral))}"


def _address(match: Match) -> str:
    groups = match.groupdict()
    written = f"{groups['user']}@{groups['host']}" if groups.get("user") else groups["host"]
    written = re.sub(r"\bwww\b", "W W W", written)
    for mark, name in _MARK_NAMES.items():
        written = written.replace(mark, f" {name} ")
    return f"{written.strip()} " if match.string[match.end() : match.end() + 1].isalnum() else written.strip()
