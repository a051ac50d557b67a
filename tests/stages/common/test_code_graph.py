"""Import closures: every file a module can run, found without importing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.common import code_graph
from stages.common.code_graph import Code, code_version, import_closure, read_code


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project: stages.one and what it leads to."""
    files = {
        "stages/__init__.py": "",
        "stages/one.py": "import numpy\nfrom stages.common import tools\n\ndef later():\n    from model.lazy "
        "import run\n    return run\n",
        "stages/two.py": "import stages.common.tools as tools\n",
        "stages/common/__init__.py": "",
        "stages/common/tools.py": "from .helpers import help_me\nREGISTRY = {'EN': 'model.text.english'}\nPROSE = "
        "'see model.unused for more'\n",
        "stages/common/helpers.py": "def help_me(): ...\n",
        "model/__init__.py": "",
        "model/lazy.py": "from model import cycle\n",
        "model/cycle.py": "import model.lazy\n",
        "model/unused.py": "",
        "model/text/__init__.py": "VERSION = 1\n",
        "model/text/english.py": "from . import words\n",
        "model/text/words.py": "WORDS = ()\n",
        "model/text/english.json": "{}",
        "model/text/english_words.txt": "a\n",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return tmp_path


def closure(module: str, root: Path) -> set[str]:
    return {path.as_posix() for path in import_closure(module, root)}


def test_the_closure_follows_lazy_relative_and_named_imports(project: Path) -> None:
    assert closure("stages.one", project) == {
        "stages/one.py",
        "stages/common/tools.py",
        "stages/common/helpers.py",
        "model/lazy.py",
        "model/cycle.py",
        "model/text/__init__.py",
        "model/text/english.py",
        "model/text/words.py",
        "model/text/english.json",
        "model/text/english_words.txt",
    }


def test_a_module_that_is_not_imported_is_not_in_the_closure(project: Path) -> None:
    assert not {"model/lazy.py", "stages/one.py", "model/unused.py"} & closure("stages.two", project)


def test_the_result_is_sorted_and_relative(project: Path) -> None:
    found = import_closure("stages.one", project)
    assert found == sorted(found) and not any(path.is_absolute() for path in found)


@pytest.fixture
def version(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """What `code_version` says of stages.one, as a process says it that starts now."""
    monkeypatch.setattr(code_graph, "project_root", lambda: project)
    monkeypatch.setenv("VOICE_WORK_DIR", str(project / "work"))

    def now() -> str:
        code_version.cache_clear()
        return code_version("stages.one")

    yield now
    code_version.cache_clear()


def test_the_version_changes_with_every_file_of_the_closure_and_no_other(
    project: Path, version: Callable[[], str]
) -> None:
    before = version()
    (project / "model" / "unused.py").write_text("X = 1\n", encoding="utf-8")
    assert version() == before
    (project / "model" / "text" / "english_words.txt").write_text("b\n", encoding="utf-8")
    assert version() != before


CODE = """def scale(values, factor=2.0):
    return [factor * value for value in values if value]
"""


@pytest.mark.parametrize(
    "same",
    [
        "# see https://example.org\n" + CODE.replace("    return", "    # why\n    return") + "# the end\n",
        CODE.replace("    return", '    """Return values times model.unused."""\n    return'),
        '"""Scaling."""\n\n\n'
        + CODE.replace("2.0", "2.00")
        .replace("\n    return [", "\n\n    return (  [\n")
        .replace("value]", "value\n  ])"),
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(project: Path, version: Callable[[], str], same: str) -> None:
    path = project / "model" / "text" / "words.py"
    path.write_text(CODE, encoding="utf-8")
    before, files = version(), closure("stages.one", project)
    path.write_text(same, encoding="utf-8")
    assert version() == before and closure("stages.one", project) == files


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2.0", "2"),
        ("2.0", "-2.0"),
        ("factor * value", "factor + value"),
        ("factor * value", "value * factor"),
        ("if value]", "if not value]"),
        ("scale", "scaled"),
        ("factor=2.0", "*, factor=2.0"),
        ("factor=2.0", "factor=None"),
        ("[factor * value for value in values if value]", "values"),
        ("return [", 'return "text", ['),
        ("for value in values if value]", "for value in values] if factor else []"),
    ],
)
def test_a_changed_expression_counts(project: Path, version: Callable[[], str], old: str, new: str) -> None:
    path = project / "model" / "text" / "words.py"
    path.write_text(CODE, encoding="utf-8")
    before = version()
    path.write_text(CODE.replace(old, new), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != CODE and version() != before


def test_a_module_that_only_a_docstring_names_is_not_in_the_closure(project: Path) -> None:
    words = project / "model" / "text" / "words.py"
    (project / "model" / "unused.py").write_text("X = 1\n", encoding="utf-8")
    words.write_text('def find():\n    """model.unused"""\n', encoding="utf-8")
    assert "model/unused.py" not in closure("stages.one", project)
    words.write_text('def find():\n    return "model.unused"\n', encoding="utf-8")
    assert "model/unused.py" in closure("stages.one", project)


def test_the_hash_is_the_same_in_every_version_of_python() -> None:
    """What newer ones parse otherwise or show otherwise: empty fields, f-strings, characters that their Unicode tables
    lack.
    """
    source = "from model import x as y\nA: int = 1_000\nclass B:\n    pass\n"
    source += 'def f(a, /, *b, c=None, **d):\n    return f"{a!r:>{c}} é \U000323af" "more", 1e3, b"x", -0.0, ...\n'
    digest = "caa5a459d49ed7f2ca31b01392346eaf9770bdcec1525a022830ce78c413951b"
    assert read_code(source.encode(), "model.one", False) == Code(digest, ("model", "model.x"))


def test_files_are_parsed_once_for_all_processes_and_a_damaged_cache_is_none(
    project: Path, version: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = version()
    parsed: list[str] = []

    def watched(source: bytes, name: str, is_package: bool) -> Code:
        parsed.append(name)
        return read_code(source, name, is_package)

    monkeypatch.setattr(code_graph, "read_code", watched)
    assert version() == before and parsed == []
    (project / "model" / "lazy.py").write_text("from model import cycle\nX = 1\n", encoding="utf-8")
    assert version() != before and parsed == ["model.lazy"]
    cache = project / "work" / "code.json"
    for damaged in (b"{", b"[]", b'{"format": 1}'):
        cache.write_bytes(damaged)
        parsed.clear()
        assert version() != before and "stages.one" in parsed


def test_training_depends_on_no_front_end_no_network_that_listens_and_no_evaluation() -> None:
    train = {path.as_posix() for path in import_closure("stages.train.stage")}
    assert {"model/training/trainer.py", "stages/metrics/signal_metrics.py"} <= train
    assert {path for path in train if path.startswith("model/text/")} == {
        "model/text/errors.py",
        "model/text/phone_sequence.py",
        "model/text/symbols.py",
        "model/text/word_lists.py",
    }
    assert {path for path in train if path.startswith("stages/metrics/")} == {
        "stages/metrics/sampling.py",
        "stages/metrics/signal_metrics.py",
    }
    assert not any(path.startswith(("stages/evaluat", "pipeline/")) for path in train)


def test_resampling_depends_on_nothing_of_the_model_but_settings_and_printing() -> None:
    resample = [path.as_posix() for path in sorted(import_closure("stages.resample.stage"))]
    assert [path for path in resample if path.startswith("model/")] == ["model/printable.py", "model/settings.py"]
    assert "model/text/english/front_end.py" in {path.as_posix() for path in import_closure("stages.clean_text.stage")}
