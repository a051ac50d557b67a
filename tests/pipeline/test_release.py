"""Releasing a voice from a real git and DVC repository: versions, what a release holds, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from model.checkpoints.checkpoint import checkpoint_sha256, load_checkpoint
from model.inference.onnx_voice import OnnxVoice
from model.inference.voice import Voice
from pipeline.release import list_versions, registered_versions, release
from stages.common.errors import PipelineError
from tests.model.random_voices import write_random_voice
from tests.project_copy import ProjectCopy
from tests.small_corpus import ROOT

FIGURES = {
    "cer": {"voice": {"value": 0.081, "low": 0.045, "high": 0.118}, "recordings": None},
    "mos": {"voice": {"value": 2.72, "low": 2.57, "high": 2.86}, "recordings": None},
}


def put_voice(project: ProjectCopy, channels: int, **changes: object) -> None:
    """Lay out what the stages will make: a voice and a card about it."""
    seed = project.root / "seed"
    shutil.rmtree(seed, ignore_errors=True)
    write_random_voice(seed / "voice", "istft", istft_channels=channels, **changes)
    (seed / "card").mkdir()
    (seed / "card" / "card.md").write_text("# Voice card\n", encoding="utf-8")
    card = {"voice_sha256": checkpoint_sha256(seed / "voice"), "step": 0, "n_tested": 25, "metrics": FIGURES}
    (seed / "card" / "card.json").write_text(json.dumps(card), encoding="utf-8")


def train(project: ProjectCopy, message: str) -> None:
    """Run the stages and commit what they made."""
    project.check("dvc", "repro", "-q")
    project.git("add", "-A")
    project.git("commit", "-qm", message)


@pytest.fixture
def project(tmp_path: Path) -> ProjectCopy:
    """A repository whose stages copy a voice that has no ONNX form (which saves half a minute), its card and its
    remote.
    """
    (tmp_path / "project").mkdir()
    made = ProjectCopy(tmp_path / "project")
    made.git("init", "-q")
    made.git("config", "user.name", "test")
    made.git("config", "user.email", "test@localhost")
    made.check("dvc", "init", "-q")
    made.check("dvc", "remote", "add", "-q", "-d", "shared", str(tmp_path / "remote"))
    stages = {
        "train": {"cmd": "cp -r seed/voice voice", "deps": ["seed/voice"], "outs": ["voice"]},
        "card": {"cmd": "cp -r seed/card reports/card", "deps": ["seed/card", "voice"], "outs": ["reports/card"]},
    }
    ours = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    (made.root / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": stages, "artifacts": ours["artifacts"]}), encoding="utf-8"
    )
    shutil.copy(ROOT / ".gitignore", made.root / ".gitignore")
    (made.root / "reports").mkdir()
    put_voice(made, 16, n_speakers=0, use_reference_encoder=True)
    train(made, "A voice")
    return made


def run_release(project: ProjectCopy, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.release", "--root", str(project.root), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_release_is_whole_registered_and_found_by_dvc_from_another_clone(
    project: ProjectCopy, tmp_path: Path
) -> None:
    assert "no version is registered" in list_versions(registered_versions(project.root))
    done = run_release(project)
    assert done.returncode == 0, done.stderr
    first = project.root / "releases" / "voice-v1.0.0"
    assert "voice-v1.0.0: released as voice@v1.0.0" in done.stdout and "without ONNX graphs" in done.stderr
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=first).returncode == 0
    assert (
        len((first / "SHA256SUMS").read_text(encoding="utf-8").splitlines())
        == sum(path.is_file() for path in first.rglob("*")) - 1
    )
    assert (
        checkpoint_sha256(first / "voice") == checkpoint_sha256(project.root / "voice")
        and load_checkpoint(first / "voice").tensors
    )
    assert project.git("cat-file", "-t", "voice@v1.0.0").strip() == "tag"
    assert project.git("rev-parse", "voice@v1.0.0^{commit}") == project.git("rev-parse", "HEAD")
    with pytest.raises(PipelineError, match=r"this commit is already voice v1\.0\.0"):
        release(project.root)

    put_voice(project, 24, n_speakers=0, use_reference_encoder=True)
    train(project, "A better voice")
    second = release(project.root)
    assert second.name == "voice-v1.1.0"
    shown = run_release(project, "--list").stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["version", "v1.1.0", "v1.0.0"]
    assert re.search(r"8\.1\s%", shown[1]) and "2.72 (2.57 to 2.86)" in shown[1]

    project.check("dvc", "push", "-q", "--all-tags")
    subprocess.run(["git", "clone", "-q", str(project.root), str(tmp_path / "clone")], check=True)
    shutil.rmtree(project.root / ".dvc" / "cache")  # so that it comes from the remote
    other = ProjectCopy(tmp_path / "clone")
    for version, folder in (("v1.0.0", first), ("v1.1.0", second)):
        other.check("dvc", "artifacts", "get", ".", "voice", "--rev", version, "-o", f"got-{version}")
        assert checkpoint_sha256(other.root / f"got-{version}") == checkpoint_sha256(folder / "voice")
    assert checkpoint_sha256(first / "voice") != checkpoint_sha256(second / "voice")


def test_what_cannot_be_released_is_refused_with_a_remedy_and_leaves_nothing(project: ProjectCopy) -> None:
    def refusal(version: str | None = None) -> str:
        with pytest.raises(PipelineError) as caught:
            release(project.root, version)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert (
        run_release(project, "--version", "one").stderr
        == "error: release: 'vone' is not a version; write it like v1.2.0\n"
    )
    (project.root / "note").touch()
    assert "note changed since the last commit" in refusal()
    (project.root / "note").unlink()
    put_voice(project, 24)
    project.git("add", "-A")
    project.git("commit", "-qm", "Data without a run")
    assert "card, train would run again; run `make run`" in refusal()
    (project.root / "seed" / "card" / "card.json").write_text(
        json.dumps({"voice_sha256": "0" * 64, "metrics": {}}), encoding="utf-8"
    )
    train(project, "A card of another voice")
    assert "belongs to another voice" in refusal()
    put_voice(project, 24, n_speakers=0, use_reference_encoder=True)
    train(project, "A voice")
    (project.root / "releases" / "voice-v1.0.0").mkdir(parents=True)
    assert "exists and is never overwritten" in refusal()
    assert release(project.root, "2.0.0", dry_run=True).name == "voice-v2.0.0"
    assert project.git("tag") == "" and [path.name for path in (project.root / "releases").iterdir()] == [
        "voice-v1.0.0"
    ]
    release(project.root, "v2.0.0")
    project.git("commit", "-q", "--allow-empty", "-m", "Later")
    assert "v1.5.0 is not above v2.0.0" in refusal("v1.5.0")
    project.git("tag", "-d", "voice@v2.0.0")


@pytest.mark.slow
def test_a_release_speaks_as_the_voice_does_in_both_its_forms(project: ProjectCopy) -> None:
    put_voice(project, 16)
    train(project, "A voice with graphs")
    folder = release(project.root)
    text = "Hello."
    ours, torch_form, onnx_form = Voice(project.root / "voice"), Voice(folder / "voice"), OnnxVoice(folder / "onnx")
    expected, same, alike = (voice.say(text, language="EN").samples for voice in (ours, torch_form, onnx_form))
    assert (expected == same).all() and abs(expected - alike).max() < 2e-5
