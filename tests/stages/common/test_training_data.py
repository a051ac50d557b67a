"""Utterances as training reads them: joined from the shards of every stage, with BERT features on their phones."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.dataset import Room
from model.text.errors import TextError
from model.text.symbols import SymbolTable, encode_phones
from stages.common import manifests
from stages.common.errors import StageError
from stages.common.training_data import DataFolders, ManifestSource, read_split
from tests.small_corpus import SmallCorpus


def source(corpus: SmallCorpus, subset: str = "train", add_blank: bool = False) -> ManifestSource:
    table, facts = read_split(corpus.split)
    data = DataFolders(corpus.split, corpus.resample, corpus.spectrogram, corpus.bert)
    return ManifestSource(data, table, facts, subset, SymbolTable(), add_blank)


def test_facts_about_the_corpus_come_from_its_manifests(small_corpus: SmallCorpus) -> None:
    _, facts = read_split(small_corpus.split)
    assert facts.speakers == ("allison",)
    assert facts.bert_channels == {"EN": 384}
    assert (facts.spectrogram.sample_rate_hz, facts.spectrogram.n_fft, facts.spectrogram_cached) == (16000, 1024, True)
    assert facts.source_note.startswith("Asterisk core prompts")


def test_the_subsets_share_out_the_utterances(small_corpus: SmallCorpus) -> None:
    assert [len(source(small_corpus, subset)) for subset in ("train", "validation", "test")] == [8, 2, 2]


@pytest.mark.parametrize("add_blank", [False, True])
def test_phones_features_and_frames_fit_each_other(small_corpus: SmallCorpus, add_blank: bool) -> None:
    utterances = source(small_corpus, add_blank=add_blank)
    for index in range(len(utterances)):
        row, loaded = utterances.row(index), utterances.load(index)
        n_padded = len(row["phones"]) + 2
        assert len(loaded.phone_ids) == (2 * n_padded + 1 if add_blank else n_padded)
        (piece,), (span,) = loaded.bert, row["bert_spans"]
        assert len(loaded.tone_ids) == len(loaded.language_ids) == len(piece.index) == len(loaded.phone_ids)
        assert (piece.language, piece.first_phone) == ("EN", 0) and piece.features.shape == (span["n_tokens"], 384)
        assert piece.index.min() >= 0 and piece.index.max() == span["n_tokens"] - 1
        assert loaded.linear.shape == (row["n_frames"], 513) and loaded.pcm.shape == (row["n_samples"],)
        assert utterances.n_frames[index] == row["n_frames"]


def test_a_source_can_be_sent_to_a_worker(small_corpus: SmallCorpus) -> None:
    original = source(small_corpus)
    copy = pickle.loads(pickle.dumps(original))
    assert np.array_equal(copy.load(3).pcm, original.load(3).pcm)


def test_one_language_cannot_have_features_of_two_sizes(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    table = pq.read_table(small_corpus.split / "split.parquet")
    rows = table.to_pylist()
    rows[5]["bert_spans"][0]["n_channels"] = 768
    manifests.write_manifest(tmp_path / "split.parquet", manifests.table_from_rows(rows, manifests.SPLIT, manifests.metadata_of(table)))
    with pytest.raises(StageError, match="EN has BERT features of 384 and 768 channels"):
        read_split(tmp_path)


def test_the_users_lexicon_travels_to_training(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    table, facts = read_split(small_corpus.split)
    assert facts.lexicon == {}
    lexicon = {"ZH": {"重庆": "chong2 qing4"}}
    metadata = manifests.metadata_of(table) | {"clean_text": {"lexicon": lexicon}}
    manifests.write_manifest(tmp_path / "split.parquet", manifests.table_from_rows(table.to_pylist(), manifests.SPLIT, metadata))
    assert read_split(tmp_path)[1].lexicon == lexicon


@pytest.mark.parametrize("add_blank", [False, True])
def test_ids_are_those_of_the_symbol_table(small_corpus: SmallCorpus, add_blank: bool) -> None:
    utterances = source(small_corpus, add_blank=add_blank)
    for index in range(len(utterances)):
        row, loaded = utterances.row(index), utterances.load(index)
        expected = encode_phones(row["phones"], row["tones"], ["EN"] * len(row["phones"]), "EN", utterances.symbols, add_blank)
        assert tuple(loaded.phone_ids) == expected.phone_ids and tuple(loaded.tone_ids) == expected.tone_ids
        assert tuple(loaded.language_ids) == expected.language_ids
        assert utterances.n_phones[index] == len(expected.phone_ids)


def test_a_phone_that_the_symbol_table_does_not_have_is_named(small_corpus: SmallCorpus) -> None:
    table, facts = read_split(small_corpus.split)
    folders = DataFolders(small_corpus.split, small_corpus.resample, small_corpus.spectrogram, small_corpus.bert)
    few = SymbolTable(symbols=("_", "ah"))
    with pytest.raises(TextError, match="is not one of the table's 2 symbols"):
        ManifestSource(folders, table, facts, "train", few, False).load(0)


def test_room_is_filled_with_what_loading_returns(small_corpus: SmallCorpus) -> None:
    utterances = source(small_corpus)
    alone = utterances.load(1)
    for n_samples in (len(alone.pcm) - 7, len(alone.pcm) + 7):
        room = Room(np.empty_like(alone.linear), np.ones(n_samples, np.int16))
        assert utterances.load(1, room).linear is room.linear
        assert np.array_equal(room.linear, alone.linear)
        assert np.array_equal(room.pcm, np.pad(alone.pcm, (0, 7))[:n_samples])


def test_rows_of_a_manifest_in_several_chunks_are_found(small_corpus: SmallCorpus) -> None:
    table, facts = read_split(small_corpus.split)
    pieces = pa.concat_tables([table.slice(0, 5), table.slice(5, 1), table.slice(6)])
    folders = DataFolders(small_corpus.split, small_corpus.resample, small_corpus.spectrogram, small_corpus.bert)
    whole, cut = (ManifestSource(folders, each, facts, "train", SymbolTable(), True) for each in (table, pieces))
    for index in range(len(whole)):
        assert cut.row(index) == whole.row(index)
        assert np.array_equal(cut.load(index).phone_ids, whole.load(index).phone_ids)
        assert np.array_equal(cut.load(index).bert[0].features, whole.load(index).bert[0].features)
