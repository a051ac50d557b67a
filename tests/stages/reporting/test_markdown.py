"""Tables in Markdown."""

from __future__ import annotations

from markdown_it import MarkdownIt

from stages.reporting.markdown import table


def test_a_cell_is_one_cell_of_one_row() -> None:
    page = MarkdownIt("commonmark").enable("table").render(table(["a", "b"], [["x | y\n| z", "\x1b[1m"]]))
    assert page.count("<td>") == 2 and "x | y | z" in page and r"\x1b[1m" in page
