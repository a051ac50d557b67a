"""Tables for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells aligned for a terminal, where East Asian characters are two columns wide."""
    widths = [max(map(display_width, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell + " " * (width - display_width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def display_width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    widths = (
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )
    return sum(widths)
