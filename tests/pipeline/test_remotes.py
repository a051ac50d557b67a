"""DVC remotes as the README describes them, on real servers of this machine: what one clone pushed, another pulls and
need not make.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncssh
import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.project_copy import ProjectCopy, copy_project
from tests.small_corpus import copy_prompts, write_transcripts

LOOPBACK = "127.0.0.1"
PUSHED = (
    "recordings",
    "data/corpus",
    "data/resample",
    "data/clean_text",
    "data/spectrogram",
    "data/bert",
    "data/split",
)
S3_KEYS = {"access_key_id": "id-of-a-test", "secret_access_key": "secret-of-a-test"}


@dataclass(frozen=True)
class Remote:
    """A remote's name and address, what every clone may know of it, and what each keeps to itself."""

    name: str
    url: str
    shared: dict[str, str] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)


@contextmanager
def folder_remote(folder: Path) -> Iterator[Remote]:
    """A folder that all can reach."""
    yield Remote("shared", str(folder / "store"))


@contextmanager
def ssh_remote(folder: Path) -> Iterator[Remote]:
    """An SFTP server for one user's key, with `folder` as its root."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "key")
    key.write_public_key(folder / "authorized_keys")
    (folder / "store").mkdir()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> int:
        server = await asyncssh.listen(
            LOOPBACK,
            0,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=str(folder / "authorized_keys"),
            sftp_factory=partial(asyncssh.SFTPServer, chroot=str(folder).encode()),
        )
        return server.get_port()

    try:
        port = asyncio.run_coroutine_threadsafe(listen(), loop).result(timeout=30)
        yield Remote("team", f"ssh://anna@{LOOPBACK}:{port}/store", own={"keyfile": str(folder / "key")})
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def s3_remote(folder: Path) -> Iterator[Remote]:
    """A bucket of a server that speaks S3."""
    server = ThreadedMotoServer(ip_address=LOOPBACK, port=0, verbose=False)
    server.start()
    try:
        endpoint = f"http://{LOOPBACK}:{server.get_host_and_port()[1]}"
        boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=S3_KEYS["access_key_id"],
            aws_secret_access_key=S3_KEYS["secret_access_key"],
        ).create_bucket(Bucket="voices")
        yield Remote("cloud", "s3://voices/store", {"endpointurl": endpoint, "region": "us-east-1"}, S3_KEYS)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> ProjectCopy:
    """A project after its data stages, with recordings of its own that DVC tracks; committed."""
    project = copy_project(tmp_path_factory.mktemp("remotes") / "project")
    texts = copy_prompts(project.root / "recordings")
    write_transcripts(project.root / "recordings" / "transcripts.csv", texts)
    project.check("pipeline.params.presets", "smoke")
    project.set_params(corpus__recordings="recordings", corpus__transcripts="recordings/transcripts.csv")
    (project.root / "dvc.lock").unlink(missing_ok=True)  # of another's voice
    project.check("dvc", "add", "-q", "recordings")
    project.check("dvc", "repro", "split", VOICE_WORKERS="1")
    project.git("add", "-A")
    project.git("commit", "-qm", "Recordings and their data stages")
    return project


def tell_own(project: ProjectCopy, remote: Remote) -> None:
    """Set what is never committed."""
    for name, value in remote.own.items():
        project.check("dvc", "remote", "modify", "--local", remote.name, name, value)


def contents(folder: Path) -> dict[str, bytes]:
    """Return path → bytes of every file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("serve", [folder_remote, ssh_remote, s3_remote])
def test_what_one_clone_pushed_another_pulls_and_repro_has_nothing_to_do(
    serve, origin: ProjectCopy, tmp_path: Path
) -> None:
    (tmp_path / "remote").mkdir()
    with serve(tmp_path / "remote") as remote:
        origin.check("dvc", "remote", "add", "-d", "--force", remote.name, remote.url)
        for name, value in remote.shared.items():
            origin.check("dvc", "remote", "modify", remote.name, name, value)
        tell_own(origin, remote)
        origin.check("dvc", "push")
        origin.git("add", "-A")
        origin.git("commit", "-qm", f"The remote {remote.name}")
        clone = ProjectCopy(tmp_path / "clone")
        subprocess.run(["git", "clone", "-q", str(origin.root), str(clone.root)], check=True)
        assert not any((clone.root / name).exists() for name in PUSHED)
        tell_own(clone, remote)
        clone.check("dvc", "pull", "--with-deps", "split")  # all that was run
    again = clone.check("dvc", "repro", "split")
    assert "Running stage" not in again.output and "Data and pipelines are up to date." in again.output
    assert all(contents(clone.root / name) == contents(origin.root / name) != {} for name in PUSHED)
    committed = origin.git("log", "-p", "--", ".dvc")
    assert remote.url in committed and not any(value in committed for value in remote.own.values())
