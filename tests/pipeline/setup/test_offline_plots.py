"""DVC's own plots, drawn in a browser that reaches no network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.processes.environment import child_environment
from pipeline.setup.offline_plots import install_template
from tests.pipeline.compare.comparable_project import evaluation, start_project

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to draw with")
def test_the_plots_of_two_revisions_are_drawn_without_a_network(tmp_path: Path) -> None:
    project = start_project(tmp_path / "voice")
    project.commit(evaluation(), "first")
    project.commit(evaluation(mos=1.0), "second", steps=200)
    install_template(project.root)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "plots", "diff", "first", "second"],
        cwd=project.root,
        env=child_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    page = project.root / "dvc_plots" / "index.html"
    assert "<script src=" not in page.read_text(encoding="utf-8")
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=10000",
        "--dump-dom",
        page.as_uri(),
    ]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    body = drawn[drawn.rindex("<body>") :]
    assert "<canvas" in body or "<svg" in body
    status = subprocess.run(
        ["git", "status", "--porcelain", ".dvc"], cwd=project.root, capture_output=True, text=True, check=True
    ).stdout
    assert "config.local" not in status and ".dvc/config\n" not in status, "the setting is this clone's own"


def test_a_template_that_is_written_again_stays_the_same(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    install_template(tmp_path)
    before = (tmp_path / ".dvc/plots.html").read_bytes(), (tmp_path / ".dvc/config.local").read_bytes()
    install_template(tmp_path)
    assert ((tmp_path / ".dvc/plots.html").read_bytes(), (tmp_path / ".dvc/config.local").read_bytes()) == before
    assert b"{plot_divs}" in before[0] and b"html_template = plots.html" in before[1]
