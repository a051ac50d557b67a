"""Import closures: every file a module can run, found without importing anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.common import code_graph
from stages.common.code_graph import code_version, import_closure


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project: stages.one and what it leads to."""
    files = {
        "stages/__init__.py": "",
        "stages/one.py": "import numpy\nfrom stages.common import tools\n\ndef later():\n    from model.lazy import run\n    return run\n",
        "stages/two.py": "import stages.common.tools as tools\n",
        "stages/common/__init__.py": "",
        "stages/common/tools.py": "from .helpers import help_me\nREGISTRY = {'EN': 'model.text.english'}\nPROSE = 'see model.unused for more'\n",
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
        "stages/one.py", "stages/common/tools.py", "stages/common/helpers.py", "model/lazy.py", "model/cycle.py",
        "model/text/__init__.py", "model/text/english.py", "model/text/words.py", "model/text/english.json", "model/text/english_words.txt",
    }  # fmt: skip


def test_a_module_that_is_not_imported_is_not_in_the_closure(project: Path) -> None:
    assert not {"model/lazy.py", "stages/one.py", "model/unused.py"} & closure("stages.two", project)


def test_the_result_is_sorted_and_relative(project: Path) -> None:
    found = import_closure("stages.one", project)
    assert found == sorted(found) and not any(path.is_absolute() for path in found)


def test_the_version_changes_with_every_file_of_the_closure_and_no_other(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_graph, "project_root", lambda: project)
    code_version.cache_clear()
    before = code_version("stages.one")
    (project / "model" / "unused.py").write_text("X = 1\n", encoding="utf-8")
    code_version.cache_clear()
    assert code_version("stages.one") == before
    (project / "model" / "text" / "english_words.txt").write_text("b\n", encoding="utf-8")
    code_version.cache_clear()
    assert code_version("stages.one") != before
    code_version.cache_clear()


def test_training_does_not_depend_on_evaluation_and_resampling_not_on_the_model() -> None:
    train = {path.as_posix() for path in import_closure("stages.train")}
    assert "model/training.py" in train and not any(path.startswith(("stages/evaluat", "pipeline/")) for path in train)
    assert not any(path.as_posix().startswith("model/") for path in import_closure("stages.resample"))
    assert "model/text/english.py" in {path.as_posix() for path in import_closure("stages.clean_text")}
