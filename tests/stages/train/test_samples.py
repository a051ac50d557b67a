"""File names of samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.train.samples import file_stem


@pytest.mark.parametrize("name", ["a" * 251, "艾" * 83, "é" * 125])
def test_a_recording_with_the_longest_name_of_a_file_system_has_samples(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.wav").touch()
    stems = {file_stem(f"{speaker}/{name}") for speaker in ("anna", "annb")} | {file_stem(f"anna/{name[:-1]}b")}
    assert len(stems) == 3
    for stem in stems:
        (tmp_path / f"{stem}.resynthesis.wav").touch()


def test_other_names_stay() -> None:
    assert file_stem("anna/one two") == "anna-one-two" and file_stem("x" * 239) == "x" * 239
