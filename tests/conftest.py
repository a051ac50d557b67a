"""Shared fixtures: a working folder of its own per test, and a small corpus processed by every data stage."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and OpenMP threads that wait spin
# The caller's shell may forbid bytecode. Without it every process compiles all libraries again, which takes 10 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

from model.bert.encoder import use_reproducible_kernels
from stages.common import code_graph
from tests.small_corpus import ROOT, SmallCorpus, build_small_corpus

LONGEST = (
    "tests/test_end_to_end.py",
    "tests/stages/train/",
    "tests/stages/evaluate/",
    "tests/pipeline/test_",
    "tests/stages/bert/",
    "tests/pipeline/",
    "tests/stages/",
    "tests/test_",
)
use_reproducible_kernels()  # as the BERT stage does first of all: later, torch has been imported and it has no effect


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first. A worker takes whole files, and none may be left with a long one."""
    items.sort(key=lambda item: next((at for at, path in enumerate(LONGEST) if item.nodeid.startswith(path)), 99))


@pytest.fixture(scope="module")  # no longer: while it runs, this thread has an event loop, and no other can be started
def browser() -> Iterator[Browser]:
    """Chromium; tests that ask for it are skipped where it is not installed."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test: row store, resumable work and relative paths lie in it; one worker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOICE_ROW_STORE", str(tmp_path / "rows"))
    monkeypatch.setenv("VOICE_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("VOICE_WORKERS", "1")
    return tmp_path


class CodeCopy:
    """A copy of the project's code that stands for it where code is hashed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file, as between two runs."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")
        code_graph.code_version.cache_clear()


@pytest.fixture
def code_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CodeCopy]:
    """The code of model and stages, to be edited."""
    for package in ("model", "stages"):
        shutil.copytree(ROOT / package, tmp_path / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_graph, "project_root", lambda: tmp_path / "code")
    code_graph.code_version.cache_clear()
    yield CodeCopy(tmp_path / "code")
    code_graph.code_version.cache_clear()


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> SmallCorpus:
    """Twelve real prompts after every data stage; tests only read it."""
    folder = tmp_path_factory.mktemp("small_corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICE_ROW_STORE", str(folder / "rows"))
        patch.setenv("VOICE_WORKERS", "1")
        return build_small_corpus(folder)


@pytest.fixture(scope="session", autouse=True)
def quiet_tools() -> None:
    """Programs that tests start report nothing to anybody."""
    os.environ.update({"DVC_NO_ANALYTICS": "true", "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"})
