"""Import closures of the project's modules and hashes of their code, by static analysis.

Row keys and the training fingerprint contain these hashes, so results are computed again when the code behind them
changes. A test compares the closures with the code dependencies in dvc.yaml.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from stages.common.files import atomic_path, work_root

PACKAGES = ("model", "stages", "pipeline")
CACHE = "code.json"  # below the work folder
_MODULE_NAME = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
# Fields without effect on behaviour: spelling (u'' strings, type comments), and whether a name is read or written,
# which its position implies.
_IGNORED_FIELDS = ("kind", "type_comment", "ctx")


class Code(NamedTuple):
    """Hash (hex) of a Python file's code, and the sorted names of project modules that it may import.

    Some names are of functions or classes: `from model.networks.flows import Flow` adds `model.networks.flows.Flow`.
    """

    digest: str
    imports: tuple[str, ...]


def project_root() -> Path:
    """Return the folder that holds the project's packages."""
    return Path(__file__).resolve().parents[2]


def import_closure(module: str, root: Path | None = None) -> list[Path]:
    """Return the project's files that `module` can execute or read, sorted, relative to the root.

    Imports inside functions count, as do modules named in a string (``"model.text.english.front_end"``), which are
    imported on demand, and a module's data files, which share its name (``report.py``, ``report.html.j2``).
    """
    return sorted(
        _closure(
            module, root or project_root(), lambda _, name, source, is_package: read_code(source, name, is_package)
        )
    )


@lru_cache(maxsize=32)
def code_version(module: str) -> str:
    """Return a hash (hex) of the code of the module's import closure, for row keys.

    It is independent of comments, docstrings, formatting and the version of Python. Data files enter by their bytes.
    """
    cache = _Cache(work_root() / CACHE)
    root = project_root()
    digest = hashlib.sha256()
    for path, entry in sorted(_closure(module, root, cache.read_code).items()):
        content = entry.digest if entry else hashlib.sha256((root / path).read_bytes()).hexdigest()
        digest.update(f"{path.as_posix()}\0{content}\0".encode())
    cache.save()
    return digest.hexdigest()


def read_code(source: bytes, name: str, is_package: bool) -> Code:
    """Return the code hash and the imports of the source of the module `name`."""
    package = name if is_package else name.rpartition(".")[0]
    words: list[str] = []
    imports: set[str] = set()
    _describe(ast.parse(source), words, imports, package)
    return Code(hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest(), tuple(sorted(imports)))


def _describe(node: ast.AST, words: list[str], imports: set[str], package: str) -> None:
    """Append a syntax tree to `words`, in a form that is the same for all versions of Python, and collect its imports.

    Fields without a value are skipped, because versions differ in their fields; so are docstrings.
    """
    words.append(f"({type(node).__name__}")
    for field in node._fields:
        value = getattr(node, field, None)
        if field in _IGNORED_FIELDS or value == []:
            continue
        if isinstance(value, ast.AST):
            words.append(field)
            _describe(value, words, imports, package)
        elif isinstance(value, list):
            words.append(f"{field}[")
            for item in value:
                if isinstance(item, ast.AST):
                    if not _has_no_effect(item, node):
                        _describe(item, words, imports, package)
                else:
                    words.append(ascii(item))
            words.append("]")
        elif value is not None or field == "value":
            words.append(f"{field}={value!a}")  # ASCII: the set of printable characters depends on the version
    words.append(")")
    imports.update(name for name in _imported_names(node, package) if name.split(".")[0] in PACKAGES)


def _has_no_effect(node: ast.AST, parent: ast.AST) -> bool:
    """Return whether a node is a docstring, or an f-string's empty end, which only Python 3.12 has."""
    if isinstance(parent, ast.JoinedStr):
        return isinstance(node, ast.Constant) and node.value == ""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imported_names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            base = ".".join([*parents[: len(parents) - node.level + 1], *base.split(".")]).strip(".")
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE_NAME.fullmatch(node.value):
        yield node.value


def _closure(module: str, root: Path, read: Callable[[Path, str, bytes, bool], Code]) -> dict[Path, Code | None]:
    """Return the non-empty files of a module's import closure, relative to the root, with their code (None: data)."""
    files: dict[Path, Code | None] = {}
    folders = _Folders(root)
    pending, seen = [module], set()
    while pending:
        name = pending.pop()
        if name in seen or name.split(".")[0] not in PACKAGES:
            continue
        seen.add(name)
        path = folders.module_path(name)
        if path is None:
            continue
        source = (root / path).read_bytes()
        is_package = path.name == "__init__.py"
        code = read(path, name, source, is_package)
        if source:
            files[path] = code
        if not is_package:
            files.update((data, None) for data in folders.data_files(path) if (root / data).stat().st_size)
        pending.extend(code.imports)
        pending.extend(name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1))
    return files


class _Folders:
    """Listings of the project's folders, each read once: a stat per file would take longer than reading it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, frozenset[str]] = {}

    def module_path(self, name: str) -> Path | None:
        """Return the file of a module relative to the root, None where there is none."""
        folder, _, last = name.replace(".", "/").rpartition("/")
        if f"{last}.py" in self._names(folder):
            return Path(folder, f"{last}.py")
        return (
            Path(folder, last, "__init__.py")
            if last in self._names(folder) and "__init__.py" in self._names(f"{folder}/{last}")
            else None
        )

    def data_files(self, path: Path) -> Iterator[Path]:
        """Yield the data files beside a module's file, which begin with its name."""
        for name in self._names(path.parent.as_posix()):
            if (
                name.startswith((f"{path.stem}.", f"{path.stem}_"))
                and not name.endswith(".py")
                and (self._root / path.parent / name).is_file()
            ):
                yield path.parent / name

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(os.listdir(self._root / folder.lstrip("/")))
            except (FileNotFoundError, NotADirectoryError):
                self._listed[folder] = frozenset()
        return self._listed[folder]


class _Cache:
    """Code hashes and imports of files by content, on disk: parsing 65 files takes a third of a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A change of this module may change the result for the same file.
        self._format = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        self._entries: dict[str, tuple[str, str, list[str]]] = {}
        self._is_new = False
        with suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(path.read_bytes())
            self._entries = content["files"] if content["format"] == self._format else {}

    def read_code(self, path: Path, name: str, source: bytes, is_package: bool) -> Code:
        """Return the code of a module's file, as `read_code` does."""
        content = hashlib.sha256(source).hexdigest()
        entry = self._entries.get(path.as_posix())
        if entry is not None and entry[0] == content:
            return Code(entry[1], tuple(entry[2]))
        code = read_code(source, name, is_package)
        self._entries[path.as_posix()] = (content, code.digest, list(code.imports))
        self._is_new = True
        return code

    def save(self) -> None:
        """Write new entries; where the folder is not writable, files are parsed again next time."""
        if self._is_new:
            with suppress(OSError), atomic_path(self._path) as temporary:
                temporary.write_text(json.dumps({"format": self._format, "files": self._entries}), encoding="utf-8")
