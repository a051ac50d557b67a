"""Markdown for Prefect's artifacts."""

from __future__ import annotations

from collections.abc import Sequence

from model.printable import markdown_cell


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table of escaped cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(markdown_cell, line)) + " |" for line in lines)
