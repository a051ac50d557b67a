"""Manifests: validated at every border, complete, and the same bytes for the same rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.common import manifests
from stages.common.errors import ManifestError, PipelineError

pytestmark = pytest.mark.usefixtures("workspace")

KIND = manifests.schema(utterance_id=pa.string(), n_frames=pa.int32())


def rows(count: int) -> list[dict[str, Any]]:
    return [{"utterance_id": f"anna/{index:03d}", "n_frames": index} for index in range(count)]


def table(count: int) -> pa.Table:
    return manifests.table_from_rows(rows(count), KIND)


def rejects(*reasons: str) -> list[dict[str, str]]:
    return [manifests.reject(f"anna/r{index}", "resample", reason, "some detail") for index, reason in enumerate(reasons)]


def test_a_manifest_comes_back_with_its_facts(tmp_path: Path) -> None:
    facts = {"sample_rate_hz": 16000, "note": "Größe"}
    manifests.write_manifest(tmp_path / "a.parquet", manifests.table_from_rows(rows(3), KIND, facts))
    read = manifests.read_manifest(tmp_path / "a.parquet", KIND)
    assert read.to_pylist() == rows(3)
    assert manifests.metadata_of(read) == facts == manifests.read_metadata(tmp_path / "a.parquet")


def test_the_same_rows_in_another_order_are_the_same_bytes(tmp_path: Path) -> None:
    shuffled = rows(200)
    random.Random(1).shuffle(shuffled)
    manifests.write_manifest(tmp_path / "a.parquet", manifests.table_from_rows(rows(200), KIND, {"b": 1, "a": 2}))
    manifests.write_manifest(tmp_path / "b.parquet", manifests.table_from_rows(shuffled, KIND, {"a": 2, "b": 1}))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_some_columns_can_be_read_alone(tmp_path: Path) -> None:
    manifests.write_manifest(tmp_path / "a.parquet", table(3))
    assert manifests.read_manifest(tmp_path / "a.parquet", KIND, ["n_frames"]).to_pydict() == {"n_frames": [0, 1, 2]}


def test_missing_and_unexpected_columns_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"utterance_id": ["a"], "frames": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ManifestError, match=r"a\.parquet: missing columns \['n_frames'\], unexpected columns \['frames'\]"):
        manifests.read_manifest(tmp_path / "a.parquet", KIND)


def test_a_wrong_type_names_the_column_the_expected_and_the_found() -> None:
    wrong = pa.table({"utterance_id": ["a"], "n_frames": pa.array([1.5])})
    with pytest.raises(ManifestError, match="here: column 'n_frames' should be int32, is double"):
        manifests.validate(wrong, KIND, where="here")


def test_an_empty_cell_names_its_utterance() -> None:
    wrong = pa.table({"utterance_id": ["a", "b"], "n_frames": pa.array([1, None], pa.int32())})
    with pytest.raises(ManifestError, match="column 'n_frames' is empty for utterance 'b'"):
        manifests.validate(wrong, KIND, where="here")


def test_a_repeated_utterance_is_named() -> None:
    wrong = manifests.table_from_rows([*rows(2), *rows(1)], KIND)
    with pytest.raises(ManifestError, match="utterance 'anna/000' appears more than once"):
        manifests.validate(wrong, KIND, where="here")


def test_rows_of_the_wrong_type_do_not_fit() -> None:
    with pytest.raises(ManifestError, match=r"rows do not fit the schema \['utterance_id', 'n_frames'\]"):
        manifests.table_from_rows([{"utterance_id": "a", "n_frames": "many"}], KIND)


@pytest.mark.parametrize(("content", "message"), [(None, "no such manifest; run `dvc repro`"), (b"PAR1 half", "not a readable Parquet file")])
def test_a_missing_or_damaged_manifest_says_what_to_do(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        manifests.read_manifest(path, KIND)
    assert str(path) in str(caught.value) and message in str(caught.value) and "\n" not in str(caught.value)


def write(folder: Path, kept: int, rejected: list[dict[str, str]], *, n_input: int, share: float = 0.25) -> None:
    manifests.write_outcome(folder, "resample", table(kept), KIND, rejected, n_input=n_input, max_reject_share=share)


def test_kept_and_rejected_rows_are_written_side_by_side(tmp_path: Path) -> None:
    write(tmp_path, 9, rejects("damaged_audio"), n_input=10)
    assert manifests.read_manifest(tmp_path / "resample.parquet", KIND).num_rows == 9
    assert manifests.read_manifest(tmp_path / "rejects.parquet", manifests.REJECTS).to_pylist() == rejects("damaged_audio")


@pytest.mark.parametrize("n_input", [9, 11])
def test_kept_and_rejected_must_add_up_to_the_input(tmp_path: Path, n_input: int) -> None:
    with pytest.raises(ManifestError, match=rf"resample: {n_input} utterances came in, 9 kept \+ 1 rejected went out"):
        write(tmp_path, 9, rejects("damaged_audio"), n_input=n_input)
    assert list(tmp_path.iterdir()) == []


def test_too_many_rejects_stop_the_run_and_say_why(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        write(tmp_path, 5, rejects("damaged_audio", "damaged_audio", "silent_audio"), n_input=8)
    message = str(caught.value)
    assert message.startswith("resample: 3 of 8 utterances rejected (damaged_audio 2, silent_audio 1)")
    assert "resample.max_reject_share = 0.25" in message
    assert "first damaged_audio: anna/r0: some detail" in message


def test_the_limit_is_inclusive(tmp_path: Path) -> None:
    write(tmp_path, 6, rejects("damaged_audio", "damaged_audio"), n_input=8)


def test_what_a_limit_left_out_does_not_count_as_rejected(tmp_path: Path) -> None:
    write(tmp_path, 2, rejects(*[manifests.OVER_LIMIT] * 50), n_input=52)
    with pytest.raises(PipelineError, match="resample"):
        write(tmp_path, 2, rejects("damaged_audio", *[manifests.OVER_LIMIT] * 50), n_input=53)


def test_too_many_rejects_are_explained_by_what_is_wrong_not_by_what_a_limit_left_out(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        write(tmp_path, 2, rejects(*[manifests.OVER_LIMIT] * 50, "damaged_audio"), n_input=53)
    assert "1 of 3 utterances rejected" in str(caught.value)
    assert "first damaged_audio: anna/r50" in str(caught.value)


def test_nothing_left_is_a_failure_whatever_the_limit(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"2 of 2 utterances rejected \(silent_audio 2\)"):
        write(tmp_path, 0, rejects("silent_audio", "silent_audio"), n_input=2, share=1.0)
    with pytest.raises(PipelineError, match="no utterances came in; look at the rejects of the stage before it"):
        write(tmp_path, 0, [], n_input=0, share=1.0)
