"""Code dependencies: dvc.yaml is rewritten where it differs from the import closures, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.setup import declare

DVC_YAML = """# a comment that stays
stages:
  one:
    cmd: python -m stages.one
    deps:
      - requirements.lock
      - stages/gone.py
    params: [one]
    outs: [data/one]
  two:
    cmd: python -m stages.two
    deps:
      - data/one
      - stages/two/__main__.py
    outs: [data/two]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "stages/one/__init__.py": "",
        "stages/one/__main__.py": "import stages.one.stage\n",
        "stages/one/stage.py": "import model.loss\nimport model.audio.pitch\n",
        "stages/two/__main__.py": "import json\n",
        "stages/two/unused.py": "X = 1\n",
        "model/loss.py": "X = 1\n",
        "model/unused.py": "X = 1\n",
        "model/audio/pitch.py": "X = 1\n",
        "model/audio/__pycache__/pitch.pyc": "bytecode",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_dependencies_become_folders_and_files_of_the_import_closure_and_the_rest_stays(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declare.main()
    written = (project / "dvc.yaml").read_text(encoding="utf-8")
    stages = yaml.safe_load(written)["stages"]
    assert stages["one"]["deps"] == ["requirements.lock", "model/audio", "model/loss.py", "stages/one"]
    assert stages["two"] == yaml.safe_load(DVC_YAML)["stages"]["two"]
    assert written.startswith("# a comment that stays\n")
    assert "rewrote the code of one\n" in capsys.readouterr().err


def test_a_file_that_is_up_to_date_is_not_touched(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declare.main()
    before = (project / "dvc.yaml").stat().st_mtime_ns
    capsys.readouterr()
    declare.main()
    assert (project / "dvc.yaml").stat().st_mtime_ns == before
    assert "up to date" in capsys.readouterr().err
