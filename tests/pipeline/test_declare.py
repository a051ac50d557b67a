"""Code dependencies: dvc.yaml is rewritten where it differs from the import closures, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline import declare

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
      - stages/two.py
    outs: [data/two]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stages").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "stages" / "one.py").write_text("import model.loss\n", encoding="utf-8")
    (tmp_path / "stages" / "two.py").write_text("import json\n", encoding="utf-8")
    (tmp_path / "model" / "loss.py").write_text("X = 1\n", encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_dependencies_become_the_import_closure_and_the_rest_stays(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declare.main()
    written = (project / "dvc.yaml").read_text(encoding="utf-8")
    stages = yaml.safe_load(written)["stages"]
    assert stages["one"]["deps"] == ["requirements.lock", "model/loss.py", "stages/one.py"]
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
