"""A clone of the project for one experiment, sharing the project's DVC cache, recordings and reusable rows.

Experiments in one working folder, or in git worktrees of it, would mix their parameters and results.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from scmrepo.exceptions import SCMError

from pipeline.params.overrides import apply_overrides
from pipeline.processes.environment import dvc_command
from pipeline.processes.locks import exclusive_lock
from pipeline.processes.run import run_command
from stages.common.files import write_json

FOLDER = Path(".work/experiments")
SPEC_NAME = "experiment.json"  # beside the clone
SHARED = (".rows", "machine.env")  # reusable rows, the machine's settings
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class ExperimentError(ValueError):
    """An experiment that cannot be run as requested."""


def check_name(name: str) -> None:
    """Raise ExperimentError unless a name is valid for a git reference and a folder."""
    if not _NAME.fullmatch(name) or ".." in name or name.endswith((".lock", ".")):
        raise ExperimentError(
            f"{name!r} is not a valid experiment name; use up to 80 of A-Z a-z 0-9 . _ -, a letter or digit first"
        )


def resolve_commit(root: Path, revision: str) -> str:
    """Return the commit of a revision. Raises ExperimentError."""
    with Repo(str(root)) as repo:
        try:
            commit: str = repo.scm.resolve_rev(revision)
        except SCMError:
            raise ExperimentError(f"{revision!r} is not a revision of {root}") from None
    return commit


def saved_experiments(root: Path) -> dict[str, str]:
    """Return the commits of the project's saved experiments by name."""
    with Repo(str(root)) as repo:
        listed = repo.experiments.ls(all_commits=True)
    return {name: commit for experiments in listed.values() for name, commit in experiments if commit}


def planned_overrides(root: Path, name: str) -> list[str] | None:
    """Return the overrides of the saved or interrupted experiment `name`, or of its first seed; None without one."""
    interrupted = {path.parent.name: path for path in (root / FOLDER).glob(f"*/{SPEC_NAME}")}
    saved = saved_experiments(root)
    for own in sorted({*saved, *interrupted}):
        if own == name or own.startswith(f"{name}-seed"):
            try:
                path = interrupted.get(own)
                spec = json.loads(path.read_text(encoding="utf-8") if path else _message(root, saved[own]))
                return [str(override) for override in spec["overrides"]]
            except (ValueError, KeyError, TypeError):
                raise ExperimentError(
                    f"experiment {own} exists and was not created by this flow; choose another name"
                ) from None
    return None


def _message(root: Path, commit: str) -> str:
    with Repo(str(root)) as repo:
        message: str = repo.scm.resolve_commit(commit).message
    return message


def copy_files_at(root: Path, commit: str, folder: Path, *paths: Path) -> None:
    """Copy files or folders of a commit into `folder`."""
    with Repo(str(root)) as repo:
        files = repo.scm.get_fs(commit)
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            files.get(f"/{path.as_posix()}", str(folder / path), recursive=True)


@contextmanager
def reserve(root: Path, name: str) -> Iterator[Path]:
    """Yield the folder of an experiment, locked against other runs of that name. Raises ExperimentError."""
    folder = root / FOLDER / name
    running = ExperimentError(f"experiment {name} is already running; choose another name")
    with exclusive_lock(folder / ".lock", running):
        yield folder


async def clone_project(root: Path, folder: Path, spec: Mapping[str, Any], log: Callable[[str], object]) -> Path:
    """Return a clone in `folder` of the spec's commit, with its preset and overrides applied.

    An interrupted run's clone is reused; raises ExperimentError if its spec differs.
    """
    clone, spec_file = folder / "project", folder / SPEC_NAME
    if spec_file.is_file():
        if json.loads(spec_file.read_text(encoding="utf-8")) != dict(spec):
            raise ExperimentError(
                f"{folder} has an interrupted run of that name with other parameters; delete it or choose another name"
            )
        log(f"resuming in {clone}")
        return clone
    shutil.rmtree(clone, ignore_errors=True)
    await run_command(
        ["git", "clone", "--quiet", "--shared", "--no-checkout", str(root), str(clone)], folder=root, log=log
    )
    await run_command(["git", "checkout", "--quiet", "--detach", str(spec["commit"])], folder=clone, log=log)
    apply_overrides(clone, spec["preset"], spec["overrides"])  # before linking: a preset may name other recordings
    _configure(root, clone)
    _link_sources(root, clone)
    await run_command(dvc_command("checkout", "--quiet", "--allow-missing"), folder=clone, log=log)
    write_json(spec_file, dict(spec))
    return clone


def _configure(root: Path, clone: Path) -> None:
    """Give the clone the project's local DVC settings, including credentials, and its cache."""
    settings = ConfigParser(interpolation=None)
    settings.read(root / ".dvc" / "config.local", encoding="utf-8")
    with Repo(str(root)) as repo:
        settings.read_dict({"cache": {"dir": repo.cache.local_cache_dir}})
    local = clone / ".dvc" / "config.local"
    with os.fdopen(os.open(local, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        settings.write(stream)


def _link_sources(root: Path, clone: Path) -> None:
    """Link inputs that neither git nor DVC tracks, such as recordings, and what all runs share."""
    with Repo(str(clone)) as repo:
        outputs = {output.fs_path for output in repo.index.outs}
        sources = {Path(dependency.fs_path) for dependency in repo.index.deps if dependency.fs_path not in outputs}
    paths = [path.relative_to(clone) for path in sources if path.is_relative_to(clone)] + [
        Path(name) for name in SHARED
    ]
    (root / ".rows").mkdir(exist_ok=True)
    links = []
    for path in sorted(paths):  # a folder before its contents
        if (root / path).exists() and not (clone / path).exists():
            (clone / path).parent.mkdir(parents=True, exist_ok=True)
            (clone / path).symlink_to(root / path)
            links.append(f"/{path.as_posix()}")
    with (clone / ".git" / "info" / "exclude").open("a", encoding="utf-8") as stream:
        stream.write("".join(f"{link}\n" for link in links))
