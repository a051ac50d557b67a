"""Text of other people: no control character in a terminal, no image or HTML in Markdown, no formula in a CSV file."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from model.printable import csv_cell, error_line, markdown_cell, markdown_line, one_line, printable
from tests.small_corpus import ROOT

ESCAPES = {"printable", "one_line", "error_line"}
# Its standard output is read by a program.
OTHERS = {"pipeline/corpora/speaking_program.py"}
ATTACKS = [
    "![x](http://evil/p.png)",
    "\\![x](http://evil/p.png)",
    "![x][r]\n\n[r]: http://evil/p.png",
    "<img src=http://evil/p.png>",
    "\\<script>alert(1)</script>",
    "<svg/onload=alert(1)@x>",
    "a\n\n# Licence\n\n![x](http://evil/p.png)",
]
FORMULAS = ["=1+1", "+cmd|'/c calc'!A1", "-2+3", "@SUM(A1)", "\t=1", '=HYPERLINK("http://x","y")']


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("anna\rerror: none", r"anna\rerror: none"),
        ("x\u202ecod.exe\u2066", r"x\u202ecod.exe\u2066"),
        ("\udcff.wav", r"\udcff.wav"),
        ("Zoë 艾莉森 é \N{GRINNING FACE}\tन\u200dम", "Zoë 艾莉森 é \N{GRINNING FACE}\tन\u200dम"),
    ],
)
def test_control_and_direction_characters_are_escapes_and_other_text_stays(text: str, shown: str) -> None:
    assert printable(text) == one_line(text) == shown


def test_an_error_is_one_line_whatever_it_names() -> None:
    assert error_line("a\nINFO: all is well\x1b[A") == r"error: a\nINFO: all is well\x1b[A"
    assert printable("a\nb") == "a\nb"


def test_every_message_with_a_value_in_it_is_escaped_where_it_is_printed() -> None:
    assert [place for path in _sources() for place in _unescaped(path)] == []


def _sources() -> Iterator[Path]:
    for package in ("model", "stages", "pipeline"):
        yield from (path for path in (ROOT / package).rglob("*.py") if path.relative_to(ROOT).as_posix() not in OTHERS)


def _unescaped(path: Path) -> Iterator[str]:
    """Yield the places that print a value with no call of ESCAPES around it."""
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(call, ast.Call) and call.args):
            continue
        name = ast.unparse(call.func)
        if name == "print" or (
            name in ("sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer.write", "sys.exit")
            and ast.unparse(call.args[0]) != "main()"
            and not _is_escaped(call.args[0])
        ):
            yield f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)}"


def _is_escaped(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.JoinedStr):
        return all(_is_escaped(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _is_escaped(node.value)
    if isinstance(node, ast.BinOp):
        return _is_escaped(node.left) and _is_escaped(node.right)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "encode":
            return _is_escaped(node.func.value)
        return ast.unparse(node.func) in ESCAPES
    return False


@pytest.mark.parametrize("text", ATTACKS)
@pytest.mark.parametrize("escape", [markdown_line, markdown_cell])
def test_no_image_and_no_html_is_rendered_even_where_both_are_allowed(
    escape: Callable[[object], str], text: str
) -> None:
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(f"Note: {escape(text)}\n")
    assert not any(tag in page for tag in ("<img", "<script", "<svg", "<h1"))
    assert page.count("<p>") == 1


def test_links_addresses_and_plain_text_stay() -> None:
    for text in ("[CC BY](https://creativecommons.org/licenses/by/4.0/)", "Jane <jane@x.org>", "a_b *c* Hello!", "艾"):
        assert markdown_line(text) == text


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_becomes_text(cell: str) -> None:
    assert csv_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["-3.2", "+1e-5", "-", "=", "", "anna/=1", "艾", "-inf", "100", "a-b"])
def test_numbers_and_harmless_text_stay(cell: str) -> None:
    assert csv_cell(cell) == cell


def test_a_carriage_return_neither_ends_the_row_nor_starts_a_formula() -> None:
    assert csv_cell("\r=1+1") == r"\r=1+1"
