"""A real Prefect server, and a small project that has run, for the tests of flows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo

from pipeline.processes.prefect_server import server
from tests.pipeline.compare.comparable_project import ComparableProject
from tests.pipeline.tiny_project import start_tiny_project


@pytest.fixture(scope="session")  # Prefect keeps connections to the first server of a process
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run a server for the flows of this session; yields its folder."""
    home = tmp_path_factory.mktemp("prefect")
    with server(home) as own, own.connected():
        yield home


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory: pytest.TempPathFactory, prefect: Path) -> ComparableProject:
    """A project whose last commit has run, and a server for its flows."""
    project = start_tiny_project(tmp_path_factory.mktemp("tiny") / "project")
    with contextlib.chdir(project.root), Repo() as repo:
        repo.reproduce()
    project.git("add", "-A")
    project.git("commit", "-qm", "Run")
    return project
