"""Manifests: validated at every border, complete, and the same bytes for the same rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.common import manifests
from stages.common.errors import ManifestError

pytestmark = pytest.mark.usefixtures("workspace")

KIND = manifests.schema(utterance_id=pa.string(), n_frames=pa.int32())


def rows(count: int) -> list[dict[str, Any]]:
    return [{"utterance_id": f"anna/{index:03d}", "n_frames": index} for index in range(count)]


def table(count: int) -> pa.Table:
    return manifests.table_from_rows(rows(count), KIND)


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
    with pytest.raises(
        ManifestError, match=r"a\.parquet: missing columns \['n_frames'\], unexpected columns \['frames'\]"
    ):
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


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such manifest; run `dvc repro`"), (b"PAR1 half", "not a readable Parquet file")]
)
@pytest.mark.parametrize("read", [manifests.read_manifest, manifests.open_manifest])
def test_a_missing_or_damaged_manifest_says_what_to_do(
    tmp_path: Path, read: Callable[..., Any], content: bytes | None, message: str
) -> None:
    path = tmp_path / "a.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        read(path, KIND)
    assert str(path) in str(caught.value) and message in str(caught.value) and "\n" not in str(caught.value)


def test_rows_come_by_utterance_id_a_few_at_a_time_and_again(tmp_path: Path) -> None:
    count = 2 * manifests.BATCH_ROWS + 5
    path = tmp_path / "a.parquet"
    manifests.write_manifest(path, manifests.table_from_rows(rows(count), KIND, {"rate": 16000}))
    opened = manifests.open_manifest(path, KIND)
    assert (opened.n_rows, opened.facts, opened.table) == (count, {"rate": 16000}, None)
    assert list(opened.read()) == list(opened.read()) == manifests.read_manifest(path, KIND).to_pylist()
    assert next(opened.read("n_frames")) == {"n_frames": rows(1)[0]["n_frames"]}


def test_a_manifest_in_another_order_is_sorted(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    shuffled = random.Random(1).sample(rows(300), 300)
    manifests.write_manifest(path, pa.Table.from_pylist(shuffled, schema=KIND))
    assert list(manifests.open_manifest(path, KIND).read()) == table(300).to_pylist()


@pytest.mark.parametrize("ids", [["a", "a"], ["b", "a", "b"]])
def test_a_repeated_utterance_is_found_on_opening(tmp_path: Path, ids: list[str]) -> None:
    path = tmp_path / "a.parquet"
    manifests.write_manifest(
        path, pa.Table.from_pylist([{"utterance_id": name, "n_frames": 1} for name in ids], schema=KIND)
    )
    with pytest.raises(ManifestError, match="appears more than once"):
        manifests.open_manifest(path, KIND)


def test_an_empty_cell_is_found_when_its_row_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    manifests.write_manifest(path, pa.table({"utterance_id": ["a", "b"], "n_frames": pa.array([1, None], pa.int32())}))
    with pytest.raises(ManifestError, match="column 'n_frames' is empty for utterance 'b'"):
        list(manifests.open_manifest(path, KIND).read())
