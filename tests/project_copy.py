"""A fresh copy of the project, as a clone would be, and its programs run in it as a user would."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.small_corpus import ROOT

QUIET = {
    "DVC_NO_ANALYTICS": "true",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "VOICE_LOG_LEVEL": "INFO",
}
IDENTITY = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "test"), ("EMAIL", "test@localhost"))
}


@dataclass(frozen=True)
class Outcome:
    """What a program said."""

    status: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


@dataclass(frozen=True)
class ProjectCopy:
    """The project in a folder of its own."""

    root: Path

    def run(self, *command: str, **settings: str) -> Outcome:
        """Run `python -m …` in the copy, with environment settings of its own."""
        ours = ("VOICE_", "PREFECT_", "PYTEST_", "MKL_CBWR", "PYTHONPATH")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env={**inherited, **QUIET, "PATH": path, **settings},
            capture_output=True,
            text=True,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def check(self, *command: str, **settings: str) -> Outcome:
        """Run a program that must succeed."""
        outcome = self.run(*command, **settings)
        assert outcome.status == 0, f"{' '.join(command)} ended with {outcome.status}:\n{outcome.output[-6000:]}"
        return outcome

    def git(self, *arguments: str) -> str:
        """Run git in the copy and return what it prints."""
        return subprocess.run(
            ["git", *arguments],
            cwd=self.root,
            env={**os.environ, **IDENTITY},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def read(self, name: str) -> dict[str, Any]:
        """Return a YAML or JSON file of the copy."""
        loaded: dict[str, Any] = yaml.safe_load((self.root / name).read_text(encoding="utf-8"))
        return loaded

    def set_params(self, **changes: Any) -> None:
        """Change values of params.yaml; `train__optimisation__steps=2` for nested ones."""
        params = self.read("params.yaml")
        for name, value in changes.items():
            *sections, key = name.split("__")
            values = params
            for section in sections:
                values = values[section]
            values[key] = value
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def output_hashes(self, *stages: str) -> dict[str, list[tuple[str, str]]]:
        """Return stage → (path, hash) of its outputs in dvc.lock."""
        locked = self.read("dvc.lock")["stages"]
        return {name: [(out["path"], out["md5"]) for out in locked[name]["outs"]] for name in stages}


def copy_project(root: Path) -> ProjectCopy:
    """Copy the project's files (not its outputs) to `root`, give it the recordings, and commit it."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    shutil.copytree(ROOT / "data" / "recordings", root / "data" / "recordings")
    project = ProjectCopy(root)
    project.git("init", "-q")
    project.git("add", "-A")
    project.git("commit", "-qm", "Start")
    return project


def tree_digest(folder: Path) -> str:
    """Return a hash over every file's path, content and time of modification."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)}\0{path.stat().st_mtime_ns}\0".encode() + path.read_bytes())
    return digest.hexdigest()
