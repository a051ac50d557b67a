"""The benchmarks by name, their questions, and how one is run."""

from __future__ import annotations

import ast
import importlib
import inspect
import tempfile
from pathlib import Path

from bench.harness import recordings as bench_recordings
from bench.harness.common import Result, limit_threads
from bench.harness.speech import kept_speech, read_clips
from stages.common.files import work_root

FOLDER = Path(__file__).parents[1]


def benchmarks() -> dict[str, str]:
    """Return the name of every module in bench/ with its question, its docstring's first line, without importing it."""
    modules = sorted(path for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    return {path.stem: _question(path) for path in modules}


def _question(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def run_benchmark(name: str, recordings: Path | None) -> list[Result]:
    """Run a benchmark on one thread, in a temporary folder; call it in a process of its own.

    A benchmark is a function `run` that names what it needs: `scratch`, an empty folder, and `clips`, the decoded
    recordings. Only a benchmark of clips fetches and decodes recordings.
    """
    limit_threads()
    run = importlib.import_module(f"bench.{name}").run
    inputs = {}
    if "clips" in inspect.signature(run).parameters:
        speech = kept_speech(recordings or bench_recordings.fetch_once(), work_root() / "bench" / "speech")
        inputs["clips"] = read_clips(speech)
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as scratch:
        results: list[Result] = run(scratch=Path(scratch), **inputs)
    return results
