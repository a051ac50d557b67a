"""DVC's plots without a network: its page loads Vega from the web, ours holds it.

Both the page and the setting that names it are this clone's own (`.dvc/plots.html`, `.dvc/config.local`), so that a
clone without
them has DVC's default.
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
SCRIPTS = "{scripts}"  # where DVC puts the addresses that need the network


def install_template(root: Path) -> None:
    """Write the page for DVC's plots, Vega inside, and make it this clone's `plots.html_template`."""
    script = f"<script>{vl_convert.javascript_bundle()}</script>"  # type: ignore[call-arg]
    with atomic_path(root / ".dvc" / TEMPLATE) as path:
        path.write_text(PAGE_HTML.replace(SCRIPTS, script), encoding="utf-8")
    with Config(str(root / ".dvc")).edit("local") as settings:
        settings.setdefault("plots", {})["html_template"] = TEMPLATE


def main(argv: Sequence[str] | None = None) -> None:
    """Make this clone's plots open offline."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.setup.offline_plots",
        description="Make the pages of `dvc plots` open without a network.",
    )
    parser.add_argument("--root", type=Path, default=Path("."), help="the project's folder (default: here)")
    install_template(parser.parse_args(argv).root)


if __name__ == "__main__":
    main()
