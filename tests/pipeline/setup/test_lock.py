"""The committed lock files fit together, as `make lock` writes them."""

from __future__ import annotations

import itertools
import re
import tomllib

from pipeline.setup import lock
from tests.small_corpus import ROOT

PROJECT_LOCKS = (lock.UNHASHED, lock.STAGES, lock.PIPELINE, lock.RAY)


def test_no_lock_file_repeats_a_package_of_another_and_the_stages_have_no_package_of_the_pipeline_alone() -> None:
    packages = {path: set(lock.locked_packages(ROOT / path)) for path in PROJECT_LOCKS}
    assert all(not packages[a] & packages[b] for a, b in itertools.combinations(PROJECT_LOCKS, 2))
    assert set(lock.PIPELINE_ONLY) <= packages[lock.PIPELINE]


def test_every_exact_version_of_pyproject_is_the_locked_one() -> None:
    project = tomllib.loads((ROOT / lock.PYPROJECT).read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["perceptual"], *extras["ray"], *extras["dev"]]
    pinned = {re.sub(r"\[.*\]", "", requirement) for requirement in asked if "==" in requirement}
    locked = "\n".join((ROOT / path).read_text(encoding="utf-8") for path in PROJECT_LOCKS)
    lines = {line.split(" ")[0] for line in locked.splitlines()}
    assert len(pinned) > 10 and sorted(pinned - lines) == []
