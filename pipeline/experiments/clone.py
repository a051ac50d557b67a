"""A project's clone for one experiment: its own working folder and git state, with the project's cache, recordings and
reusable rows.

Experiments in one working folder, or in git worktrees of it, would mix their parameters and results.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from scmrepo.exceptions import SCMError

from pipeline.params.overrides import apply_overrides
from pipeline.processes.environment import dvc_command
from pipeline.processes.locks import only_one
from pipeline.processes.run import run_command
from stages.common.files import write_json

FOLDER = Path(".work/experiments")
ABOUT = "experiment.json"  # beside the clone: what it is for
SHARED = (".rows", "machine.env")  # reusable rows, the machine's settings
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class ExperimentError(ValueError):
    """An experiment cannot be run as it was asked for."""


def check_name(name: str) -> None:
    """Raise ExperimentError for what cannot be the name of a git reference and of a folder."""
    if not _NAME.fullmatch(name) or ".." in name or name.endswith((".lock", ".")):
        raise ExperimentError(
            f"{name!r} is no name for an experiment; use up to 80 of A-Z a-z 0-9 . _ -, a letter or digit first"
        )


def resolve(root: Path, revision: str) -> str:
    """Return the commit of a revision; raises ExperimentError."""
    with Repo(str(root)) as repo:
        try:
            commit: str = repo.scm.resolve_rev(revision)
        except SCMError:
            raise ExperimentError(f"{revision!r} is no revision of {root}") from None
    return commit


def saved_experiments(root: Path) -> dict[str, str]:
    """Return the project's saved experiments: name and commit."""
    with Repo(str(root)) as repo:
        found = repo.experiments.ls(all_commits=True)
    return {name: commit for experiments in found.values() for name, commit in experiments if commit}


def planned_overrides(root: Path, name: str) -> list[str] | None:
    """Return the overrides of the experiment `name`, or of the first of its seeds, that is saved or was interrupted;
    None without one.
    """
    kept = {path.parent.name: path for path in (root / FOLDER).glob(f"*/{ABOUT}")}
    saved = saved_experiments(root)
    for own in sorted({*saved, *kept}):
        if own == name or own.startswith(f"{name}-seed"):
            try:
                about = json.loads(kept[own].read_text(encoding="utf-8") if own in kept else _message(root, saved[own]))
                return [str(override) for override in about["overrides"]]
            except (ValueError, KeyError, TypeError):
                raise ExperimentError(
                    f"there is an experiment {own} already that no flow has made; choose another name"
                ) from None
    return None


def _message(root: Path, commit: str) -> str:
    with Repo(str(root)) as repo:
        message: str = repo.scm.resolve_commit(commit).message
    return message


def files_at(root: Path, commit: str, folder: Path, *paths: Path) -> None:
    """Write files or folders of a commit into `folder`."""
    with Repo(str(root)) as repo:
        files = repo.scm.get_fs(commit)
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            files.get(f"/{path.as_posix()}", str(folder / path), recursive=True)


@contextmanager
def reserved(root: Path, name: str) -> Iterator[Path]:
    """Yield the folder of an experiment that no other run of that name uses meanwhile; raises ExperimentError."""
    folder = root / FOLDER / name
    with only_one(folder / ".lock", ExperimentError(f"the experiment {name} is running already; choose another name")):
        yield folder


async def clone_project(root: Path, folder: Path, about: Mapping[str, Any], log: Any) -> Path:
    """Return a clone in `folder` of the commit, with the preset and the overrides that `about` has; that of an
    interrupted run of the same.

    Raises ExperimentError where the folder keeps a run of something else.
    """
    clone, kept = folder / "project", folder / ABOUT
    if kept.is_file():
        if json.loads(kept.read_text(encoding="utf-8")) != dict(about):
            raise ExperimentError(
                f"{folder} keeps an earlier run of that name with other parameters; delete it or choose another name"
            )
        log(f"going on in {clone}")
        return clone
    shutil.rmtree(clone, ignore_errors=True)
    await run_command(
        ["git", "clone", "--quiet", "--shared", "--no-checkout", str(root), str(clone)], folder=root, log=log
    )
    await run_command(["git", "checkout", "--quiet", "--detach", str(about["commit"])], folder=clone, log=log)
    apply_overrides(clone, about["preset"], about["overrides"])  # first: a preset may have other recordings
    _configure(root, clone)
    _link_sources(root, clone)
    await run_command(dvc_command("checkout", "--quiet", "--allow-missing"), folder=clone, log=log)
    write_json(kept, dict(about))
    return clone


def _configure(root: Path, clone: Path) -> None:
    """Give the clone the project's own DVC settings, remotes' credentials included, and its cache."""
    settings = ConfigParser(interpolation=None)
    settings.read(root / ".dvc" / "config.local", encoding="utf-8")
    with Repo(str(root)) as repo:
        settings.read_dict({"cache": {"dir": repo.cache.local_cache_dir}})
    local = clone / ".dvc" / "config.local"
    with os.fdopen(os.open(local, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        settings.write(stream)


def _link_sources(root: Path, clone: Path) -> None:
    """Link what stages read and neither git nor DVC brings, such as recordings, and what all runs share."""
    with Repo(str(clone)) as repo:
        made = {output.fs_path for output in repo.index.outs}
        sources = {Path(dependency.fs_path) for dependency in repo.index.deps if dependency.fs_path not in made}
    wanted = [path.relative_to(clone) for path in sources if path.is_relative_to(clone)] + [
        Path(name) for name in SHARED
    ]
    (root / ".rows").mkdir(exist_ok=True)
    links = []
    for path in sorted(wanted):  # a folder before what lies in it
        if (root / path).exists() and not (clone / path).exists():
            (clone / path).parent.mkdir(parents=True, exist_ok=True)
            (clone / path).symlink_to(root / path)
            links.append(f"/{path.as_posix()}")
    with (clone / ".git" / "info" / "exclude").open("a", encoding="utf-8") as stream:
        stream.write("".join(f"{link}\n" for link in links))
