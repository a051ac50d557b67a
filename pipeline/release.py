"""Release the voice: register a version (a git tag that DVC and GTO read) and export a folder to distribute.

A version is reproducible: a commit whose outputs match its code, data and parameters. A tree with uncommitted changes
or stages that would run again cannot be released.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gto.api
from gto.exceptions import GTOException
from gto.versions import SemVer

from model.checkpoints.checkpoint import (
    METADATA_NAME,
    CheckpointError,
    checkpoint_sha256,
    file_sha256,
    load_checkpoint,
    new_folder,
    read_listing,
)
from model.inference.export_onnx import export_onnx
from model.printable import error_line, printable
from pipeline.repro.dag import changed_stages
from stages.common.command import configure_logging
from stages.common.errors import PipelineError
from stages.metrics.catalogue import BY_KEY, NOT_KNOWN, format_figure
from stages.reporting.terminal import columns

logger = logging.getLogger(__name__)

ARTIFACT = "voice"  # its name in dvc.yaml, and that of its tags: voice@v1.0.0
FIRST_VERSION = "v1.0.0"
VOICE, CARD = Path("voice"), Path("reports/card")
LISTED = ("cer", "wer", "mos")
README = """{name}: a voice and its card.

card.md, card.html   data, metrics, limitations, and the licences of the recordings
voice/               weights and metadata: python -m model.inference.say --voice voice --text "…"
onnx/                the same as ONNX graphs: python -m model.inference.say --voice onnx --text "…"
SHA256SUMS           sha256sum -c SHA256SUMS
"""


@dataclass(frozen=True)
class Version:
    """A registered version: its date, its commit, and its card's figures by metric."""

    name: str
    date: str
    commit: str
    figures: dict[str, str]


def registered_versions(root: Path) -> list[Version]:
    """Return the versions of the voice, newest first."""
    if not _git(root, "tag", "--list", f"{ARTIFACT}@v*"):
        return []
    versions = [
        Version(
            entry["version"],
            f"{entry['created_at']:%Y-%m-%d}",
            entry["commit_hexsha"],
            _figures(root, entry["version"]),
        )
        for entry in gto.api.show(str(root), ARTIFACT, registered_only=True)
    ]
    return sorted(versions, key=lambda version: SemVer(version.name), reverse=True)


def next_version(versions: list[Version], requested: str | None) -> str:
    """Return the version to release: the requested or the next minor one. Raises PipelineError for an invalid one."""
    newest = versions[0].name if versions else None
    if requested is None:
        return SemVer(newest).bump_minor().version if newest else FIRST_VERSION
    requested = requested if requested.startswith("v") else f"v{requested}"
    if not SemVer.is_valid(requested):
        raise PipelineError(f"release: {requested!r} is not a version; write it like v1.2.0")
    if newest and not SemVer(requested) > SemVer(newest):
        raise PipelineError(
            f"release: {requested} is not above {newest}, the newest version; omit VERSION for the next one"
        )
    return requested


def check_releasable(root: Path, versions: list[Version]) -> dict[str, Any]:
    """Return the voice's card. Raises PipelineError if the voice cannot be released."""
    if changed := _git(root, "status", "--porcelain").splitlines():
        names = ", ".join(line[3:] for line in changed[:3]) + (", …" if len(changed) > 3 else "")
        raise PipelineError(f"release: {names} changed since the last commit; commit first")
    if stages := changed_stages(root):
        raise PipelineError(
            f"release: {', '.join(sorted(stages))} would run again; run `make run` and commit dvc.lock first"
        )
    commit = _git(root, "rev-parse", "HEAD").strip()
    if same := [version.name for version in versions if version.commit == commit]:
        raise PipelineError(
            f"release: this commit is already {ARTIFACT} {same[0]}; train another voice, or use that version"
        )
    try:
        card: dict[str, Any] = json.loads((root / CARD / "card.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"release: {CARD / 'card.json'} is missing; run `make run`") from None
    if card["voice_sha256"] != checkpoint_sha256(root / VOICE):
        raise PipelineError(f"release: the card in {CARD} belongs to another voice than {VOICE}; run `make run`")
    return card


def release(root: Path, requested: str | None = None, *, dry_run: bool = False) -> Path:
    """Export the voice into releases/voice-vX.Y.Z, register the version and return the folder; a dry run only checks.

    Raises PipelineError or CheckpointError, with nothing written or registered.
    """
    versions = registered_versions(root)
    version = next_version(versions, requested)
    card = check_releasable(root, versions)
    load_checkpoint(root / VOICE)  # verifies every file
    out = root / "releases" / f"{ARTIFACT}-{version}"
    if out.exists():
        raise PipelineError(f"release: {out} exists and is never overwritten; move it away or pass another VERSION")
    if dry_run:
        return out
    with new_folder(out) as folder:
        write_release(folder, root, out.name)
        try:
            gto.api.register(str(root), ARTIFACT, "HEAD", version=version, message=_message(version, card))
        except GTOException as error:
            raise PipelineError(
                f"release: {version} cannot be registered ({str(error).splitlines()[0]}); nothing was released"
            ) from None
    return out


def write_release(folder: Path, root: Path, name: str) -> None:
    """Write the voice, its card, its ONNX graphs and their hashes into an empty folder."""
    voice = root / VOICE
    (folder / "voice").mkdir()
    for file in (METADATA_NAME, *(entry["file"] for entry in read_listing(voice)["files"].values())):
        shutil.copyfile(voice / file, folder / "voice" / file)
    for path in sorted((root / CARD).iterdir()):
        shutil.copyfile(path, folder / path.name)
    logger.info("release: exporting ONNX graphs, which takes half a minute or more")
    try:
        export_onnx(folder / "voice", folder / "onnx")
    except CheckpointError as error:
        logger.warning("release: without ONNX graphs: %s", error)
    (folder / "README").write_text(README.format(name=name), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8")


def list_versions(versions: list[Version]) -> str:
    """Return the registered versions as a table for a terminal."""
    if not versions:
        return "no version is registered; `make release` registers the first\n"
    header = ("version", "date", "commit", *(BY_KEY[key].name for key in LISTED))
    rows = [
        header,
        *(
            (each.name, each.date, each.commit[:7], *(each.figures.get(key, NOT_KNOWN) for key in LISTED))
            for each in versions
        ),
    ]
    return f"{columns(rows)}\n"


def _message(version: str, card: dict[str, Any]) -> str:
    """Return the tag's message: version, voice hash and figures with intervals, readable without the DVC cache."""
    lines = [f"{ARTIFACT} {version}", "", f"voice_sha256: {card['voice_sha256']}"]
    for key, figures in card["metrics"].items():
        if key in BY_KEY:
            value, low, high = (
                format_figure(figures["voice"][part], BY_KEY[key].unit) for part in ("value", "low", "high")
            )
            lines.append(f"{key}: {value} ({low} to {high})")
    return "\n".join(lines)


def _figures(root: Path, version: str) -> dict[str, str]:
    message = _git(root, "tag", "--list", "--format=%(contents)", f"{ARTIFACT}@{version}")
    return dict(re.findall(r"^(\w+): (.+)$", message, re.MULTILINE))


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1]
        raise PipelineError(f"release: git {arguments[0]} failed ({why}); run it in the voice's git repository")
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Release, check or list; return the exit status, an error being one line."""
    parser = argparse.ArgumentParser(
        prog="voice-factory release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", help="version to register, such as v1.2.0 (default: the next minor one)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    parser.add_argument("--list", action="store_true", help="list the registered versions with their figures")
    parser.add_argument("--root", type=Path, default=Path("."), help="project folder (default: .)")
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        if arguments.list:
            sys.stdout.write(printable(list_versions(registered_versions(arguments.root))))
            return 0
        out = release(arguments.root, arguments.version, dry_run=arguments.dry_run)
    except (PipelineError, CheckpointError) as error:
        sys.stderr.write(f"{error_line(error)}\n")
        return 1
    if arguments.dry_run:
        sys.stdout.write(printable(f"{out}: could be released\n"))
    else:
        tag = out.name.replace("-", "@", 1)
        sys.stdout.write(printable(f"{out}: released as {tag}; `git push origin {tag}` and `dvc push` share it\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
