"""Release the voice: a version in the registry (a git tag that DVC and GTO read) and a folder with all that others need
of it.

A version is a commit whose outputs are those of its code, data and parameters, so that it can be made again: a tree
with
changes, or stages that would run again, cannot be released.
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

card.md, card.html   what it is made of, how good it is, its limits, and the licences of the recordings
voice/               weights and metadata: python -m model.inference.say --voice voice --text "…"
onnx/                the same as ONNX graphs: python -m model.inference.say --voice onnx --text "…"
SHA256SUMS           sha256sum -c SHA256SUMS
"""


@dataclass(frozen=True)
class Version:
    """A registered version: when and of which commit, and the figures by metric that stood in its card."""

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


def next_version(versions: list[Version], wanted: str | None) -> str:
    """Return the version to release: what is wanted, or the next minor one; raises PipelineError for one that cannot
    be.
    """
    newest = versions[0].name if versions else None
    if wanted is None:
        return SemVer(newest).bump_minor().version if newest else FIRST_VERSION
    wanted = wanted if wanted.startswith("v") else f"v{wanted}"
    if not SemVer.is_valid(wanted):
        raise PipelineError(f"release: {wanted!r} is no version; write it like v1.2.0")
    if newest and not SemVer(wanted) > SemVer(newest):
        raise PipelineError(
            f"release: {wanted} is not after {newest}, the newest version; leave VERSION out for the next one"
        )
    return wanted


def check_releasable(root: Path, versions: list[Version]) -> dict[str, Any]:
    """Return the card's figures of a voice that can be released; raises PipelineError for one that cannot."""
    if changed := _git(root, "status", "--porcelain").splitlines():
        names = ", ".join(line[3:] for line in changed[:3]) + (", …" if len(changed) > 3 else "")
        raise PipelineError(f"release: {names} changed since the last commit; commit first, as a version is a commit")
    if stages := changed_stages(root):
        raise PipelineError(
            f"release: {', '.join(sorted(stages))} would run again; run `make run`, commit dvc.lock and release that"
        )
    commit = _git(root, "rev-parse", "HEAD").strip()
    if same := [version.name for version in versions if version.commit == commit]:
        raise PipelineError(
            f"release: this commit is {ARTIFACT} {same[0]} already; train another voice, or use that version"
        )
    try:
        card: dict[str, Any] = json.loads((root / CARD / "card.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"release: {CARD / 'card.json'} is missing; run `make run`") from None
    if card["voice_sha256"] != checkpoint_sha256(root / VOICE):
        raise PipelineError(f"release: the card in {CARD} is of another voice than the one in {VOICE}; run `make run`")
    return card


def release(root: Path, wanted: str | None = None, *, dry_run: bool = False) -> Path:
    """Export the voice into releases/voice-vX.Y.Z, register the version and return the folder; a dry run only checks.

    Raises PipelineError or CheckpointError with nothing written and nothing registered.
    """
    versions = registered_versions(root)
    version = next_version(versions, wanted)
    card = check_releasable(root, versions)
    load_checkpoint(root / VOICE)  # every file is there and whole
    out = root / "releases" / f"{ARTIFACT}-{version}"
    if out.exists():
        raise PipelineError(
            f"release: {out} exists already, and no release is written over; move it away or pass another VERSION"
        )
    if dry_run:
        return out
    with new_folder(out) as folder:
        fill(folder, root, out.name)
        try:
            gto.api.register(str(root), ARTIFACT, "HEAD", version=version, message=_message(version, card))
        except GTOException as error:
            raise PipelineError(
                f"release: {version} cannot be registered ({str(error).splitlines()[0]}); nothing was released"
            ) from None
    return out


def fill(folder: Path, root: Path, name: str) -> None:
    """Write all that a release holds into an empty folder, and the hashes of it all."""
    voice = root / VOICE
    (folder / "voice").mkdir()
    for file in (METADATA_NAME, *(entry["file"] for entry in read_listing(voice)["files"].values())):
        shutil.copyfile(voice / file, folder / "voice" / file)
    for path in sorted((root / CARD).iterdir()):
        shutil.copyfile(path, folder / path.name)
    logger.info("release: the ONNX graphs are made, which takes half a minute or more")
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
        return "no version is registered yet; `make release` makes the first\n"
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
    """Return the tag's message: the version, its voice and its figures with their intervals, which need no DVC cache to
    be read.
    """
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
        raise PipelineError(f"release: git {arguments[0]} failed ({why}); a voice is released from its git repository")
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; errors are one line and exit status 1."""
    parser = argparse.ArgumentParser(
        prog="voice-factory release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", help="version to register, such as v1.2.0 (default: the next minor one)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    parser.add_argument("--list", action="store_true", help="list the registered versions with their figures and leave")
    parser.add_argument("--root", type=Path, default=Path("."), help="the project's folder (default: here)")
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        if arguments.list:
            sys.stdout.write(list_versions(registered_versions(arguments.root)))
            return 0
        out = release(arguments.root, arguments.version, dry_run=arguments.dry_run)
    except (PipelineError, CheckpointError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if arguments.dry_run:
        sys.stdout.write(f"{out}: could be released\n")
    else:
        tag = out.name.replace("-", "@", 1)
        sys.stdout.write(f"{out}: released as {tag}; `git push origin {tag}` and `dvc push` share it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
