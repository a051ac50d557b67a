"""Write every stage's code dependencies into dvc.yaml: its import closure, so that editing a loss never resamples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.common.code_graph import PACKAGES, import_closure

DVC_YAML = Path("dvc.yaml")


def declared_code(stage: dict[str, Any]) -> list[str]:
    """Return the code files among a stage's dependencies."""
    return [dependency for dependency in stage["deps"] if dependency.split("/")[0] in PACKAGES]


def needed_code(name: str, root: Path) -> list[str]:
    """Return the code files that the stage's module can run."""
    return [path.as_posix() for path in import_closure(f"stages.{name}", root)]


def main() -> None:
    """Rewrite dvc.yaml where its code dependencies differ from the import closures."""
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
    sys.stderr.write(f"dvc.yaml: {'rewrote the code of ' + ', '.join(changed) if changed else 'up to date'}\n")


if __name__ == "__main__":
    main()
