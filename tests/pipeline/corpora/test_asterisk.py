"""The default corpus: packages are unpacked into one folder, whole or not at all, and only once."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.corpora import asterisk
from stages.common.errors import PipelineError


def test_prompts_are_read_from_the_packages_list(tmp_path: Path) -> None:
    path = tmp_path / "core-sounds-en.txt.gz"
    path.write_bytes(
        gzip.compress(b"; a remark: not a prompt\n\nhello: Hello, caller: welcome.\ndigits/1:  one \nno colon here\n")
    )
    assert asterisk.read_prompts(path) == {"hello": "Hello, caller: welcome.", "digits/1": "one"}


def build_package(folder: Path) -> Path:
    """Build a Debian package that holds what the two real ones do."""
    root = folder / "package"
    for path, content in {
        asterisk.ENGLISH.sounds / "hello.g722": b"\x01\x02",
        asterisk.ENGLISH.sounds / "digits" / "1.g722": b"\x03",
        asterisk.ENGLISH.copyright: b"CC BY-SA 3.0\n",
        asterisk.ENGLISH.transcripts: gzip.compress(b"hello: Hello, caller.\ndigits/1: one\n"),
        Path(
            "DEBIAN/control"
        ): b"Package: sounds\nVersion: 1\nArchitecture: all\nMaintainer: nobody <a@b.c>\nDescription: sounds\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    subprocess.run(["dpkg-deb", "--build", str(root), str(folder / "sounds.deb")], check=True, capture_output=True)
    return folder / "sounds.deb"


def test_packages_become_recordings_and_transcripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = build_package(tmp_path)
    monkeypatch.setattr(asterisk, "download", lambda packages, folder: [package])
    assert asterisk.fetch(tmp_path / "out") == 2
    assert (tmp_path / "out/allison/digits/1.g722").read_bytes() == b"\x03"
    assert (tmp_path / "out/COPYRIGHT").is_file()
    with (tmp_path / "out/transcripts.csv").open(encoding="utf-8", newline="") as stream:
        rows = [tuple(row.values()) for row in csv.DictReader(stream)]
    assert rows == [
        ("allison/digits/1.g722", "allison", "EN", "one"),
        ("allison/hello.g722", "allison", "EN", "Hello, caller."),
    ]


def test_without_apt_the_message_says_how_to_use_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PipelineError) as caught:
        asterisk.fetch(tmp_path / "out")
    message = str(caught.value)
    assert "apt-get is not on this machine" in message and "set corpus.recordings" in message and "\n" not in message
    assert not (tmp_path / "out").exists()


def test_a_download_that_fails_says_what_apt_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in {
        "apt-get": "#!/bin/sh\necho 'E: no network' >&2\nexit 100\n",
        "dpkg-deb": "#!/bin/sh\n",
    }.items():
        (tmp_path / name).write_text(script, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        PipelineError, match=r"failed \(E: no network\); run `apt-get update` as root and try again, or to use your own"
    ):
        asterisk.fetch(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "transcripts.csv").touch()
    monkeypatch.setattr(asterisk, "fetch", None)
    monkeypatch.setattr(sys, "argv", ["asterisk", "--out", str(tmp_path)])
    asterisk.main()
