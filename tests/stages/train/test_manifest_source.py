"""Utterances as training reads them: joined from the shards of every stage, with BERT features on their phones."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from model.text.errors import TextError
from model.text.symbols import SymbolTable, encode_phones
from model.training.dataset import BatchDataset, StoredBatch
from stages.common import manifests
from stages.common.errors import StageError
from stages.rows.shards import ShardReader
from stages.train.manifest_source import DataFolders, ManifestSource, read_split
from tests.small_corpus import SmallCorpus


def source(corpus: SmallCorpus, subset: str = "train", add_blank: bool = False) -> ManifestSource:
    table, facts = read_split(corpus.split)
    data = DataFolders(corpus.split, corpus.resample, corpus.spectrogram, corpus.bert)
    return ManifestSource(data, table, facts, subset, SymbolTable(), add_blank)


def load(utterances: ManifestSource, *indices: int) -> StoredBatch:
    return BatchDataset(
        utterances, [indices], utterances.facts.bert_channels, utterances.facts.spectrogram.hop_samples
    )[0]


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
        row, loaded = utterances.row(index), load(utterances, index)
        n_padded = len(row["phones"]) + 2
        n_phones = 2 * n_padded + 1 if add_blank else n_padded
        assert loaded.phone_ids.shape == loaded.tone_ids.shape == loaded.language_ids.shape == (1, n_phones)
        assert loaded.bert["EN"].shape == (1, n_phones, 384) and loaded.bert["EN"].any(dim=2).all()
        assert loaded.linear.shape == (1, row["n_frames"], 513) and utterances.pcm(index).shape == (row["n_samples"],)
        assert utterances.n_frames[index] == row["n_frames"]


def test_phones_take_the_features_of_their_tokens(small_corpus: SmallCorpus) -> None:
    utterances = source(small_corpus)
    row, reader = utterances.row(2), ShardReader(small_corpus.bert)
    (span,) = row["bert_spans"]
    tokens = reader.read_array(span["shard"], span["offset_bytes"], (span["n_tokens"], 384), "float16")
    assert np.array_equal(load(utterances, 2).bert["EN"][0], tokens[row["phone_tokens"]])


@pytest.mark.parametrize("add_blank", [False, True])
def test_utterances_of_a_batch_are_those_that_are_loaded_alone(small_corpus: SmallCorpus, add_blank: bool) -> None:
    utterances = source(small_corpus, add_blank=add_blank)
    batch = load(utterances, 5, 0, 3)
    assert batch.indices.tolist() == [5, 0, 3] and batch.speaker_ids.tolist() == [0, 0, 0]
    hop_samples = utterances.facts.spectrogram.hop_samples
    for row, index in enumerate((5, 0, 3)):
        alone = load(utterances, index)
        n_phones, n_frames = alone.phone_ids.shape[1], alone.linear.shape[1]
        assert (batch.phone_lengths[row], batch.frame_lengths[row]) == (n_phones, n_frames)
        for found, expected, size in (
            (batch.phone_ids, alone.phone_ids, n_phones),
            (batch.tone_ids, alone.tone_ids, n_phones),
            (batch.language_ids, alone.language_ids, n_phones),
            (batch.bert["EN"], alone.bert["EN"], n_phones),
            (batch.linear, alone.linear, n_frames),
        ):
            assert torch.equal(found[row, :size], expected[0]) and not found[row, size:].any()
        pcm = utterances.pcm(index)[: batch.waveform.shape[1]]
        assert np.array_equal(batch.waveform[row, : len(pcm)], pcm) and not batch.waveform[row, len(pcm) :].any()
        assert np.array_equal(alone.waveform[0], pcm[: n_frames * hop_samples])


def test_a_source_can_be_sent_to_a_worker(small_corpus: SmallCorpus) -> None:
    original = source(small_corpus)
    copy = pickle.loads(pickle.dumps(original))
    assert torch.equal(load(copy, 3).linear, load(original, 3).linear)


def test_one_language_cannot_have_features_of_two_sizes(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    table = pq.read_table(small_corpus.split / "split.parquet")
    rows = table.to_pylist()
    rows[5]["bert_spans"][0]["n_channels"] = 768
    manifests.write_manifest(
        tmp_path / "split.parquet", manifests.table_from_rows(rows, manifests.SPLIT, manifests.metadata_of(table))
    )
    with pytest.raises(StageError, match="EN has BERT features of 384 and 768 channels"):
        read_split(tmp_path)


def test_the_users_lexicon_travels_to_training(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    table, facts = read_split(small_corpus.split)
    assert facts.lexicon == {}
    lexicon = {"ZH": {"重庆": "chong2 qing4"}}
    metadata = manifests.metadata_of(table) | {"clean_text": {"lexicon": lexicon}}
    manifests.write_manifest(
        tmp_path / "split.parquet", manifests.table_from_rows(table.to_pylist(), manifests.SPLIT, metadata)
    )
    assert read_split(tmp_path)[1].lexicon == lexicon


@pytest.mark.parametrize("add_blank", [False, True])
def test_ids_are_those_of_the_symbol_table(small_corpus: SmallCorpus, add_blank: bool) -> None:
    utterances = source(small_corpus, add_blank=add_blank)
    for index in range(len(utterances)):
        row, loaded = utterances.row(index), load(utterances, index)
        expected = encode_phones(
            row["phones"], row["tones"], ["EN"] * len(row["phones"]), "EN", utterances.symbols, add_blank
        )
        for found, known in zip(
            (loaded.phone_ids, loaded.tone_ids, loaded.language_ids),
            (expected.phone_ids, expected.tone_ids, expected.language_ids),
            strict=True,
        ):
            assert tuple(found[0].tolist()) == known
        assert utterances.n_phones[index] == len(expected.phone_ids)


def test_a_phone_that_the_symbol_table_does_not_have_is_named(small_corpus: SmallCorpus) -> None:
    table, facts = read_split(small_corpus.split)
    folders = DataFolders(small_corpus.split, small_corpus.resample, small_corpus.spectrogram, small_corpus.bert)
    few = SymbolTable(symbols=("_", "ah"))
    with pytest.raises(TextError, match="is not one of the table's 2 symbols"):
        load(ManifestSource(folders, table, facts, "train", few, False), 0)


def test_rows_of_a_manifest_in_several_chunks_are_found(small_corpus: SmallCorpus) -> None:
    table, facts = read_split(small_corpus.split)
    pieces = pa.concat_tables([table.slice(0, 5), table.slice(5, 1), table.slice(6)])
    folders = DataFolders(small_corpus.split, small_corpus.resample, small_corpus.spectrogram, small_corpus.bert)
    whole, cut = (ManifestSource(folders, each, facts, "train", SymbolTable(), True) for each in (table, pieces))
    for index in range(len(whole)):
        assert cut.row(index) == whole.row(index)
        one, other = load(cut, index), load(whole, index)
        assert torch.equal(one.phone_ids, other.phone_ids) and torch.equal(one.bert["EN"], other.bert["EN"])
        assert torch.equal(one.linear, other.linear) and torch.equal(one.waveform, other.waveform)


def test_a_manifest_is_read_in_one_piece_whatever_its_row_groups(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    table = pq.read_table(small_corpus.split / "split.parquet")
    pq.write_table(table, tmp_path / "split.parquet", row_group_size=5)
    found = read_split(tmp_path)[0]
    assert found.equals(table) and {column.num_chunks for column in found.columns} == {1}
