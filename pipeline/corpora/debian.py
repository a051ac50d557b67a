"""Debian packages as sources of recordings: downloaded with apt and unpacked, never installed.

apt checks the signature of the package lists and with them the hash of every package. Packages of an unsigned list are
refused, whatever the machine's settings allow, unless its administrator marked that source as trusted.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

from stages.common.errors import PipelineError

logger = logging.getLogger(__name__)

VERIFIED = ("-o", "APT::Get::AllowUnauthenticated=false", "-o", "Acquire::AllowInsecureRepositories=false")
OWN_RECORDINGS = (
    "to use your own recordings, set corpus.recordings (a folder speaker/*.wav) and corpus.transcripts in params.yaml "
    "and run `make run` again"
)


def download(packages: list[str], folder: Path) -> list[Path]:
    """Download Debian packages into `folder` and return their files; raises PipelineError with the remedy."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise PipelineError(
                f"{tool} is not on this machine, so the recordings of {', '.join(packages)} cannot be fetched; "
                f"{OWN_RECORDINGS}"
            )
    command = ["apt-get", *VERIFIED, "download", "-q", *packages]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode != 0:
        logger.info("apt-get download failed; updating the package lists")
        subprocess.run(["apt-get", *VERIFIED, "update", "-q"], capture_output=True, text=True)
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode != 0:
        lines = (result.stderr.strip() or result.stdout.strip() or "no message").splitlines()
        reason = next((line for line in lines if line.startswith("E:")), lines[-1])
        raise PipelineError(
            f"`apt-get download {' '.join(packages)}` failed ({reason}); run `apt-get update` as root and try again, "
            f"or {OWN_RECORDINGS}"
        )
    return sorted(folder.glob("*.deb"))


def unpack(packages: list[Path], folder: Path) -> Path:
    """Unpack package files below `folder` and return the root of their contents."""
    for package in packages:
        result = subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "root")], capture_output=True, text=True)
        if result.returncode != 0:
            reason = (result.stderr.strip() or "no message").splitlines()[0]
            raise PipelineError(f"{package.name}: cannot be unpacked ({reason}); run it again")
    return folder / "root"
