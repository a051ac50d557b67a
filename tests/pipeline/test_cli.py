"""The console command: it lists every sub-command without loading one, and runs the code of the current clone."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import COMMANDS, Command
from tests.small_corpus import ROOT


def voice_factory(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder` as its installed script does: with this project's code on the path."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pipeline.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": ""}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_help_lists_every_command_and_loads_none() -> None:
    script = (
        "import sys; from pipeline.cli import build_app; build_app()(standalone_mode=False);"
        "sys.exit(','.join({'torch', 'prefect', 'dvc', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""
    listed = [line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.startswith("  ")]
    assert [name for name in listed if name in {command.name for command in COMMANDS}] == [
        command.name for command in COMMANDS
    ]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_names_a_function_that_takes_the_arguments(command: Command) -> None:
    module, name = command.function.split(":")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    functions = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert len(functions[name].args) == len(functions[name].defaults) == 1


def test_a_command_answers_help_itself_and_its_exit_status_is_passed_on() -> None:
    done = voice_factory("preset", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: voice-factory preset")
    done = voice_factory("gc", "--max-days", "-1")
    assert (done.returncode, done.stderr) == (
        1,
        "error: --max-gigabytes and --max-days: expected numbers of at least 0\n",
    )
    assert voice_factory("no-such-command").returncode == 2


def test_outside_a_project_only_commands_that_need_none_run(tmp_path: Path) -> None:
    done = voice_factory("explain", "Hi.", "--language", "EN", folder=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("Hi.\n")
    done = voice_factory("summary", folder=tmp_path)
    assert done.returncode == 1 and done.stderr == (
        f"error: {tmp_path} is not a project; change to the project's folder, which holds dvc.yaml\n"
    )
    done = voice_factory("summary", folder=ROOT / "docs")
    assert done.returncode == 1 and done.stderr == f"error: {ROOT / 'docs'} is not a project; change to {ROOT}\n"


def test_in_another_clone_its_own_code_and_files_are_used(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    for name in ("stages", "model"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    presets = tmp_path / "pipeline" / "params" / "presets.py"
    presets.write_text(presets.read_text(encoding="utf-8").replace("now holds", "of the clone holds"), encoding="utf-8")
    done = voice_factory("preset", "smoke", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "params.yaml of the clone holds the preset smoke\n")
    assert "preset: smoke\n" in (tmp_path / "params.yaml").read_text(encoding="utf-8")
