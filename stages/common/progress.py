"""Progress bars with rate and remaining time, on the standard error stream."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(description: str, total: int | None, unit: str, **options: Any) -> tqdm[Any]:
    """Return a progress bar; if the error stream is a log file, it prints at most one line every ten seconds."""
    interactive = sys.stderr.isatty()
    return tqdm(
        desc=description,
        total=total,
        unit=unit,
        mininterval=0.2 if interactive else 10.0,
        dynamic_ncols=interactive,
        ascii=not interactive,
        **options,
    )
