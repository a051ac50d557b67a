"""The work folder: one process at a time, nothing half-written, artefacts known by their content."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.common.errors import PipelineError
from stages.train import work_folder
from stages.train.work_folder import CHECKPOINTS, SAMPLES, Artefacts, exclusive_lock


def test_two_processes_cannot_train_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_folder, "LOCK_SECONDS", 0.1)
    with (
        exclusive_lock(tmp_path),
        pytest.raises(PipelineError, match="another process is training this run"),
        exclusive_lock(tmp_path),
    ):
        pass
    with exclusive_lock(tmp_path):  # it was let go
        pass


def test_only_this_programs_own_left_overs_are_removed(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINTS / ".step-00000010.1.ab.tmp").mkdir(parents=True)
    names = {
        ".state-00000005.pt.ab.tmp": False,
        ".durations.npz.ab.tmp": False,
        ".notes.tmp": True,
        "state-00000005.pt": True,
        "x.tmp": True,
    }
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with exclusive_lock(tmp_path):
        assert {name: (tmp_path / name).exists() for name in names} == names
        assert not any((tmp_path / CHECKPOINTS).iterdir())


def test_an_artefact_is_whole_and_known_by_its_content(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path)
    name = artefacts.name(SAMPLES, 10)
    with pytest.raises(ZeroDivisionError), artefacts.writing(name) as folder:
        (folder / "a.wav").write_bytes(b"sound")
        _ = 1 / 0
    assert not (tmp_path / name).exists()
    with artefacts.writing(name) as folder:
        (folder / "a.wav").write_bytes(b"sound")
    digests = {name: artefacts.digest(name)}
    assert artefacts.damaged(digests) == []
    (tmp_path / name / "a.wav").write_bytes(b"soun")
    assert artefacts.damaged(digests) == [name]
    (tmp_path / name / "a.wav").unlink()
    assert artefacts.damaged(digests) == [name]


def test_checkpoints_that_nothing_needs_are_removed_and_foreign_folders_are_not(tmp_path: Path) -> None:
    for name in ("step-00000010", "step-00000020", "step-20", "mine"):
        (tmp_path / CHECKPOINTS / name).mkdir(parents=True)
    Artefacts(tmp_path).remove_checkpoints([f"{CHECKPOINTS}/step-00000020"])
    assert sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir()) == ["mine", "step-00000020", "step-20"]
