"""Atomic output: what exists under its final name is whole."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.files import atomic_path, content_key, output_folder, write_csv, write_json
from stages.rows.shards import shard_hash, write_shards
from tests.power_loss import ForgetfulDisk
from tests.small_corpus import ROOT


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole", encoding="utf-8")
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="stop"), atomic_path(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise ValueError("stop")
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_power_loss_after_a_stage_leaves_its_shards_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = ForgetfulDisk(monkeypatch)
    hashes = np.array([shard_hash(f"anna/{number}") for number in range(60)], dtype=np.uint32)
    with output_folder(tmp_path / "out") as folder:
        write_shards(folder, hashes, lambda row: bytes([row]) * 1000, lambda done: None)
        write_json(folder / "facts.json", {"rows": 60})
    expected = files_below(tmp_path)
    assert len(expected) > 10 and disk.after_power_loss(tmp_path) == expected


def test_a_power_loss_before_a_stage_ends_leaves_nothing_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = ForgetfulDisk(monkeypatch)
    seen = []
    rename = Path.rename

    def rename_and_look(self: Path, target: Path) -> Path:
        seen.append(disk.after_power_loss(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_and_look)
    with output_folder(tmp_path / "out") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "shard").write_bytes(b"whole")
        assert disk.after_power_loss(tmp_path) == {}
    assert seen == [{"inner/shard": b"whole"}], "the name appeared before the content was on the disk"


def test_a_power_loss_leaves_the_new_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = ForgetfulDisk(monkeypatch)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"whole")
    assert disk.after_power_loss(tmp_path) == {"a.txt": b"whole"}


def test_a_folder_replaces_the_one_before_it_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with output_folder(tmp_path / "out") as folder:
            (folder / name).touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), output_folder(tmp_path / "out") as folder:
        (folder / "half").touch()
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []


def test_json_is_sorted_readable_and_ends_in_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "a": "ü",\n  "b": 1\n}\n'


def test_keys_depend_on_every_part_and_not_on_the_order_of_a_mapping() -> None:
    assert content_key("a", {"x": 1, "y": [2]}) == content_key("a", {"y": [2], "x": 1})
    assert len({content_key("a", "b"), content_key("ab"), content_key(["a", "b"]), content_key("a", "b", None)}) == 4


def test_a_table_is_written_with_safe_text_and_the_same_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "id": ["=1+1", "\t=1", '=HYPERLINK("http://x","y")', "anna/1", "-3.2", "\r=1"],
            "loss": np.linspace(-3.2, 3.2, 6),
            "mixed": pd.Series([-1, "=2", None, -0.5, True, "-7"], dtype=object),
            "=head": range(6),
        }
    )
    write_csv(tmp_path / "table.csv", table, float_format="%.6g")
    text = (tmp_path / "table.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["id"] for row in rows] == ["'=1+1", "'\t=1", '\'=HYPERLINK("http://x","y")', "anna/1", "-3.2", r"\r=1"]
    assert rows[0]["loss"] == "-3.2" and rows[-1]["loss"] == "3.2"
    assert [row["mixed"] for row in rows] == ["-1", "'=2", "", "-0.5", "True", "-7"]
    assert "'=head" in rows[0]


def test_harmless_tables_have_the_bytes_that_pandas_writes(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["anna/a", "ben/-b"], "cer": [-0.1, np.nan], "n": pd.Series([1, None], dtype="Int64")})
    write_csv(tmp_path / "table.csv", table)
    assert (tmp_path / "table.csv").read_text() == table.to_csv(index=False, lineterminator="\n")


def test_reports_are_written_by_this_function_only() -> None:
    writers = [
        path.relative_to(ROOT).as_posix()
        for package in ("stages", "pipeline")
        for path in (ROOT / package).rglob("*.py")
        if ".to_csv(" in path.read_text(encoding="utf-8")
    ]
    assert writers == ["stages/common/files.py"]
