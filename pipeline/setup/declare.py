"""Write the code dependencies of every stage into dvc.yaml (`make deps`).

They are the stage's import closure, so that an edited loss does not rerun the resampling. A folder stands for its files
if all of them belong to the closure: few dependencies keep dvc.lock short, which DVC parses several times per stage.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from model.printable import printable
from stages.common.code_graph import PACKAGES, import_closure

DVC_YAML = Path("dvc.yaml")


def declared_code(stage: dict[str, Any]) -> list[str]:
    """Return the code files and folders among a stage's dependencies."""
    return [dependency for dependency in stage["deps"] if dependency.split("/")[0] in PACKAGES]


def code_of_stage(name: str, root: Path) -> list[Path]:
    """Return the files that `python -m stages.NAME` can import, relative to the root."""
    return import_closure(f"stages.{name}.__main__", root)


def needed_code(name: str, root: Path) -> list[str]:
    """Return the stage's import closure as dvc.yaml lists it: folders that belong to it entirely, and files."""
    files = set(code_of_stage(name, root))
    return [path for package in PACKAGES for path in _folders_and_files(Path(package), files, root)]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, except bytecode and empty files."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.stat().st_size:
            yield path


def _folders_and_files(folder: Path, files: set[Path], root: Path) -> Iterator[str]:
    below = {path.relative_to(root) for path in files_below(root / folder)}
    if below and below <= files:
        yield folder.as_posix()
    elif below & files:
        for path in sorted((root / folder).iterdir()):
            relative = path.relative_to(root)
            if path.is_dir():
                yield from _folders_and_files(relative, files, root)
            elif relative in files:
                yield relative.as_posix()


def main() -> None:
    """Rewrite dvc.yaml if its code dependencies differ from the import closures."""
    yaml = YAML()
    yaml.width = 150
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(DVC_YAML)
    changed = []
    for name, stage in content["stages"].items():
        needed = needed_code(name, Path.cwd())
        if declared_code(stage) != needed:
            others = [dependency for dependency in stage["deps"] if dependency not in declared_code(stage)]
            stage["deps"] = [*others, *needed]
            changed.append(name)
    if changed:
        with DVC_YAML.open("w", encoding="utf-8") as stream:
            yaml.dump(content, stream)
    result = f"rewrote the code of {', '.join(changed)}" if changed else "up to date"
    sys.stderr.write(printable(f"dvc.yaml: {result}\n"))


if __name__ == "__main__":
    main()
