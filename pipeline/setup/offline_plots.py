"""Make the pages of `dvc plots` work offline: DVC's template loads Vega from the web, ours contains it.

The template (`.dvc/plots.html`) and the setting that selects it (`.dvc/config.local`) are local to this clone. A clone
without them uses DVC's template.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import vl_convert
from dvc.config import Config
from dvc_render.html import PAGE_HTML

from stages.common.files import atomic_path

TEMPLATE = "plots.html"
SCRIPTS = "{scripts}"  # DVC replaces it by script tags that need the network


def install_template(root: Path) -> None:
    """Write a template that contains Vega and set it as this clone's `plots.html_template`."""
    script = f"<script>{vl_convert.javascript_bundle()}</script>"  # type: ignore[call-arg]
    with atomic_path(root / ".dvc" / TEMPLATE) as path:
        path.write_text(PAGE_HTML.replace(SCRIPTS, script), encoding="utf-8")
    with Config(str(root / ".dvc")).edit("local") as settings:
        settings.setdefault("plots", {})["html_template"] = TEMPLATE


def main(argv: Sequence[str] | None = None) -> None:
    """Install the template."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.setup.offline_plots",
        description="Make the pages of `dvc plots` open without a network.",
    )
    parser.add_argument("--root", type=Path, default=Path("."), help="the project's folder (default: here)")
    install_template(parser.parse_args(argv).root)


if __name__ == "__main__":
    main()
