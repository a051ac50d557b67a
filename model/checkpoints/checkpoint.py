"""Checkpoints in this project's format: a folder of safetensors files and a JSON file that lists them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # reading a checkpoint's metadata needs no torch, which takes seconds to import
    from torch import Tensor

State = Mapping[str, "Tensor"]

METADATA_NAME = "metadata.json"
FORMAT_VERSION = 1


class CheckpointError(RuntimeError):
    """Unusable checkpoint; the message names the file or module and the remedy."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by network name and key, and the JSON metadata saved with them."""

    tensors: dict[str, dict[str, Tensor]]
    metadata: dict[str, Any]


def save_checkpoint(folder: Path, *, tensors: Mapping[str, State], metadata: Mapping[str, Any]) -> None:
    """Write networks and metadata to `folder`, replacing an existing checkpoint atomically.

    Tensor files are named by their content, and the metadata file that lists them is renamed into place last: an
    interruption leaves the old checkpoint or the new one, never a mixture. The same content gives the same bytes.
    Raises OSError when the disk is full, with the old checkpoint intact.
    """
    for name in tensors:
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise ValueError(f"{name!r} cannot name a network; use letters, digits and underscores")
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, str]] = {}
    for name, state in tensors.items():
        with _temporary(folder / f".{name}.tmp") as temporary:
            try:
                save_file({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}, temporary)
            except SafetensorError as error:  # raised for a full disk
                raise _write_error(temporary, error) from error
            digest = file_sha256(temporary)
            files[name] = {"file": f"{name}-{digest[:16]}.safetensors", "sha256": digest}
            _commit(temporary, folder / files[name]["file"])
    content = {"format_version": FORMAT_VERSION, "files": files, "metadata": dict(metadata)}
    with _temporary(folder / f".{METADATA_NAME}.tmp") as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        _commit(temporary, folder / METADATA_NAME)
    _remove_superseded(folder, files)


def load_checkpoint(folder: Path, names: Collection[str] | None = None) -> Checkpoint:
    """Read a checkpoint of `save_checkpoint`, all networks or only `names`.

    Raises CheckpointError naming the file and the remedy when anything is missing, truncated or altered.
    """
    from safetensors.torch import load_file

    content = read_listing(folder)
    files = content["files"]
    if absent := sorted(set(names or ()) - set(files)):
        raise CheckpointError(f"{folder}: has no {', '.join(absent)}; it has {', '.join(sorted(files))}")
    tensors = {}
    for name in sorted(files if names is None else names):
        path = folder / files[name]["file"]
        if not path.is_file():
            raise CheckpointError(f"{path}: missing though {METADATA_NAME} lists it; restore the whole folder")
        if file_sha256(path) != files[name]["sha256"]:
            raise CheckpointError(f"{path}: truncated or altered (checksum differs); restore it or train again")
        tensors[name] = load_file(path)
    return Checkpoint(tensors, content["metadata"])


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `final` on success and removed on failure.

    Raises CheckpointError if `final` is not empty: nothing is overwritten.
    """
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise CheckpointError(f"{final}: is not empty; choose a new folder")
    temporary = final.parent / f".{final.name}.{os.getpid()}.tmp"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, final)
    except OSError as error:
        raise CheckpointError(
            f"{final}: cannot be written ({first_line(error)}); free some space or choose another folder"
        ) from error
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield a path to write to, and remove the file if writing fails."""
    try:
        yield path
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _write_error(path: Path, error: Exception) -> OSError:
    """Return the error of the system that a library hides behind its own, with its number if the message has it."""
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        return OSError(f"{path}: cannot be written ({first_line(error)})")
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type's name if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def checkpoint_sha256(folder: Path) -> str:
    """Return the hash (hex) of a checkpoint: that of its metadata file, which has the hashes of the tensor files."""
    read_listing(folder)
    return file_sha256(folder / METADATA_NAME)


def read_listing(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's JSON file: `files` with hashes by network, and `metadata`; or raise CheckpointError."""
    path = folder / METADATA_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; no checkpoint was completed here, check the folder") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: unreadable ({first_line(error)}); restore it or train again") from error
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        version = content.get("format_version") if isinstance(content, dict) else None
        raise CheckpointError(
            f"{path}: format version {version}, expected {FORMAT_VERSION}; use the program version that wrote it"
        )
    if not isinstance(content.get("files"), dict) or not isinstance(content.get("metadata"), dict):
        raise CheckpointError(f"{path}: lists no files or no metadata; restore it or train again")
    return content


def _commit(temporary: Path, final: Path) -> None:
    """Make a finished temporary file durable under its final name."""
    _sync(temporary)
    os.replace(temporary, final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_superseded(folder: Path, files: Mapping[str, Mapping[str, str]]) -> None:
    """Delete earlier versions of the networks just written, and no other files."""
    current = {entry["file"] for entry in files.values()}
    for path in folder.glob("*.safetensors"):
        match = re.fullmatch(r"(\w+)-[0-9a-f]{16}\.safetensors", path.name)
        if match and match[1] in files and path.name not in current:
            path.unlink()


def file_sha256(path: Path) -> str:
    """Return the hash of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
