"""What stages leave behind: every input row kept or rejected, in Parquet that is the same bytes for the same rows."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.common import manifests
from stages.common.errors import ManifestError, PipelineError
from stages.common.files import work_root
from stages.rows import outcomes
from stages.rows.outcomes import outcome_writer

pytestmark = pytest.mark.usefixtures("workspace")

KIND = manifests.schema(utterance_id=pa.string(), n_frames=pa.int32())


def rows(count: int) -> list[dict[str, Any]]:
    return [{"utterance_id": f"anna/{index:05d}", "n_frames": index} for index in range(count)]


def rejects(*reasons: str) -> list[dict[str, str]]:
    return [
        manifests.reject(f"anna/r{index}", "resample", reason, "some detail") for index, reason in enumerate(reasons)
    ]


def write(folder: Path, kept: int, rejected: list[dict[str, str]], *, n_input: int, share: float = 0.25) -> None:
    with outcome_writer(folder, "resample", KIND, {"rate": 16000}, n_input=n_input, max_reject_share=share) as writer:
        for row in rows(kept):
            writer.keep(row)
        for row in sorted(rejected, key=itemgetter("utterance_id")):
            writer.reject(row["utterance_id"], row["reason"], row["detail"])


def test_kept_and_rejected_rows_are_written_side_by_side(tmp_path: Path) -> None:
    write(tmp_path, 9, rejects("damaged_audio"), n_input=10)
    assert manifests.read_manifest(tmp_path / "resample.parquet", KIND).num_rows == 9
    assert manifests.read_manifest(tmp_path / "rejects.parquet", manifests.REJECTS).to_pylist() == rejects(
        "damaged_audio"
    )


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


def test_the_listed_rejects_hold_no_formula(tmp_path: Path) -> None:
    details = [manifests.reject("=cmd|' /C calc'!A0/1", "resample", "damaged_audio", "@SUM(A1)")]
    with pytest.raises(PipelineError):
        write(tmp_path, 0, details, n_input=1)
    listed = (work_root() / "rejects" / "resample.csv").read_text(encoding="utf-8").splitlines()
    assert listed[1] == '"\'=cmd|\' /C calc\'!A0/1","resample","damaged_audio","\'@SUM(A1)"'


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
    with pytest.raises(PipelineError, match="no utterances came in; see the rejects of the previous stage"):
        write(tmp_path, 0, [], n_input=0, share=1.0)


def test_many_rows_lie_in_groups_of_a_bounded_size(tmp_path: Path) -> None:
    count = outcomes.ROW_GROUP_ROWS + 3
    for name in ("a", "b"):
        write(tmp_path / name, count, [], n_input=count)
    file = pq.ParquetFile(tmp_path / "a" / "resample.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [
        outcomes.ROW_GROUP_ROWS,
        3,
    ]
    read = manifests.read_manifest(tmp_path / "a" / "resample.parquet", KIND)
    assert read.to_pylist() == rows(count) and manifests.metadata_of(read) == {"rate": 16000}
    assert (tmp_path / "a" / "resample.parquet").read_bytes() == (tmp_path / "b" / "resample.parquet").read_bytes()


@pytest.mark.parametrize(("ids", "message"), [("aa", "'a' appears more than once"), ("ba", "'a' comes after 'b'")])
def test_kept_rows_out_of_order_are_refused(tmp_path: Path, ids: str, message: str) -> None:
    with (
        pytest.raises(ManifestError, match=message),
        outcome_writer(tmp_path, "resample", KIND, {}, n_input=2, max_reject_share=1.0) as writer,
    ):
        for name in ids:
            writer.keep({"utterance_id": name, "n_frames": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_lacks_a_value_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ManifestError, match="resample.parquet: column 'n_frames' is empty for utterance 'a'"),
        outcome_writer(tmp_path, "resample", KIND, {}, n_input=1, max_reject_share=1.0) as writer,
    ):
        writer.keep({"utterance_id": "a"})
