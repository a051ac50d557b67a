"""Debian packages are verified: apt itself runs, with a package source in a folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.corpora.debian import download, unpack
from stages.common.errors import PipelineError

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt on this machine")

CONTROL = "Package: sounds\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <a@b.c>\nDescription: sounds\n"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An unsigned source, trusted by the machine's administrator, with one package; apt's state lies beside it."""
    root, source = tmp_path / "package", tmp_path / "source"
    for folder in (root / "DEBIAN", source, tmp_path / "state/lists/partial", tmp_path / "cache/archives/partial"):
        folder.mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(CONTROL, encoding="utf-8")
    (root / "hello").write_text("hello", encoding="utf-8")
    package = source / "sounds_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(package)], check=True, capture_output=True)
    content = package.read_bytes()
    listed = (
        f"{CONTROL}Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    )
    (source / "Packages").write_text(listed, encoding="utf-8")
    digest = hashlib.sha256(listed.encode()).hexdigest()
    (source / "Release").write_text(f"SHA256:\n {digest} {len(listed)} Packages\n", encoding="utf-8")
    settings = {
        "Dir::Etc::sourcelist": tmp_path / "sources.list",
        "Dir::Etc::sourceparts": tmp_path / "none",
        "Dir::State": tmp_path / "state",
        "Dir::Cache": tmp_path / "cache",
        "APT::Get::AllowUnauthenticated": "true",
        "Acquire::AllowInsecureRepositories": "true",
    }
    (tmp_path / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()), "utf-8")
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    update(source, "[trusted=yes]")
    return source


def update(source: Path, trust: str) -> None:
    """Let apt read the lists of the source."""
    (source.parent / "sources.list").write_text(f"deb {trust} copy:{source} ./\n", encoding="utf-8")
    subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)


def fetch(folder: Path) -> list[Path]:
    folder.mkdir()
    return download(["sounds"], folder)


def test_a_package_of_a_trusted_source_is_fetched_and_unpacked(source: Path, tmp_path: Path) -> None:
    packages = fetch(tmp_path / "out")
    assert (unpack(packages, tmp_path / "out") / "hello").read_text() == "hello"


def test_an_unsigned_source_is_refused_whatever_the_settings_allow(source: Path, tmp_path: Path) -> None:
    update(source, "")
    with pytest.raises(PipelineError, match=r"failed \(E: .*(authenticated|Unable to locate|candidate|not signed)"):
        fetch(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_altered_package_is_refused(source: Path, tmp_path: Path) -> None:
    with (source / "sounds_1.0_all.deb").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(PipelineError, match=r"failed \(E: .*Hash Sum mismatch\)"):
        fetch(tmp_path / "out")


def test_a_package_that_cannot_be_unpacked_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sounds.deb").write_bytes(b"no package")
    with pytest.raises(PipelineError, match=r"sounds\.deb: cannot be unpacked \(dpkg-deb: error: .*") as caught:
        unpack([tmp_path / "sounds.deb"], tmp_path)
    assert "\n" not in str(caught.value)
