"""Self-contained HTML pages and the pictures inside them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def fill_page(template: Path, **values: Any) -> str:
    """Return an HTML template filled with escaped values; raises jinja2.UndefinedError for a missing one."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template.name).render(**values)


def as_png(figure: Figure, pad: float) -> bytes:
    """Return a figure as PNG with a border of `pad` font sizes."""
    stream = io.BytesIO()
    figure.tight_layout(pad=pad)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(stream)
    return stream.getvalue()


def inline_png(png: bytes) -> str:
    """Return a picture as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
