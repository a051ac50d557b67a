"""Text of other people (names of files and speakers, notes, errors), made safe for terminals, Markdown and CSV files.

A terminal moves no cursor and reorders no characters, Markdown loads no image and holds no HTML, a spreadsheet computes
nothing.
"""

from __future__ import annotations

import re

# Control characters but tab and line feed, bidirectional marks and overrides, line separators, and lone surrogates,
# which stand for the bytes of a file name that is not UTF-8.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# In Markdown: entities, because a backslash before them changes nothing. An address in angle brackets stays a link.
_HTML = re.compile(r"<(?![\w.+-]+@[\w.-]+>)")
_IMAGE = re.compile(r"!(?=\[)")
_LINE_BREAKS = re.compile(r"\s*[\r\n]+\s*")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t")  # a carriage return is one too, and is no part of a printable cell


def printable(text: object) -> str:
    """Return a text whose control and direction characters are escapes such as `\\x1b`; it keeps its lines."""
    return _UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), str(text))


def one_line(text: object) -> str:
    """Return a printable text whose line breaks are escapes too, so that a name cannot imitate another message."""
    return printable(text).replace("\n", "\\n")


def error_line(error: object) -> str:
    """Return an error as every command prints it."""
    return f"error: {one_line(error)}"


def markdown_line(value: object) -> str:
    """Return a value as part of one line of Markdown: links and emphasis work, images and HTML are plain text."""
    line = printable(_LINE_BREAKS.sub(" ", str(value)))
    return _IMAGE.sub("&#33;", _HTML.sub("&lt;", line))


def markdown_cell(value: object) -> str:
    """Return a value as one cell of a Markdown table."""
    return markdown_line(value).replace("|", "\\|")


def csv_cell(text: str) -> str:
    """Return a printable cell of a CSV file, with an apostrophe before a formula; numbers and a lone sign stay."""
    text = printable(text)
    if len(text) < 2 or not text.startswith(_FORMULA_STARTS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
