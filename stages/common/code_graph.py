"""Which of the project's files a module reads: its import closure, found without importing anything.

It serves the row keys (a row is computed anew when its stage's code changes) and the test that dvc.yaml declares
exactly the code each stage depends on.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import lru_cache
from pathlib import Path

PACKAGES = ("model", "stages", "pipeline")
_MODULE_NAME = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")


def project_root() -> Path:
    """Return the folder that holds the project's packages."""
    return Path(__file__).resolve().parents[2]


def import_closure(module: str, root: Path | None = None) -> list[Path]:
    """Return the project's files that `import module` would execute, sorted, relative to the root.

    Imports inside functions count: they are code that the module can run. So do modules that are named in a string
    (``"model.text.english"``), which are imported on demand, and a module's data files, which lie beside it under its
    name (``report.py``, ``report.html.j2``).
    """
    root = root or project_root()
    found: set[Path] = set()
    pending = [module]
    seen = set()
    while pending:
        name = pending.pop()
        if name in seen or name.split(".")[0] not in PACKAGES:
            continue
        seen.add(name)
        path = _module_path(name, root)
        if path is None:
            continue
        found.add(path.relative_to(root))
        if path.name != "__init__.py":
            found.update(data.relative_to(root) for data in path.parent.glob(f"{path.stem}[._]*") if data.suffix != ".py")
        pending.extend(_imported_modules(path, name, root))
        pending.extend(name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1))
    return sorted(path for path in found if (root / path).stat().st_size > 0)


def _module_path(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imported_modules(path: Path, name: str, root: Path) -> list[str]:
    names: list[str] = []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1] + base.split(".")).strip(".")
            names.append(base)
            names.extend(f"{base}.{alias.name}" for alias in node.names if _module_path(f"{base}.{alias.name}", root))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE_NAME.fullmatch(node.value):
            names.append(node.value)
    return names


@lru_cache(maxsize=32)
def code_version(module: str) -> str:
    """Return a hash (hex) over the bytes of the module's import closure: the code part of a row's key."""
    root = project_root()
    digest = hashlib.sha256()
    for path in import_closure(module, root):
        digest.update(str(path).encode() + b"\0" + (root / path).read_bytes() + b"\0")
    return digest.hexdigest()
