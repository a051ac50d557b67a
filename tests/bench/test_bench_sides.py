"""Both sides of each benchmark compute the same thing, on tiny input."""

import warnings

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoModel

from bench import alignment_search, bert_batches, bert_large, corpora, dvc_files, loading, manifest_million, padding, resampling, stft
from bench.harness.speech import Clip
from model.alignment import search_durations
from model.dataset import BatchDataset
from model.sampler import padding_share
from stages.common.manifests import write_manifest
from stages.common.shards import shard_hash, shard_path

WORDS = ("one", "two words", "three short words", "a longer line with more words")


def speechlike(n_samples, seed):
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * 150 * np.arange(n_samples) / 16000) * 6000 + rng.normal(0, 500, n_samples)
    return np.rint(wave).astype(np.int16)


def make_clips():
    return [Clip(f"speaker/{number}", text, speechlike(9000 + 2500 * number, number)) for number, text in enumerate(WORDS)]


def random_features(texts):
    rng = np.random.default_rng(0)
    return [corpora.TokenFeatures([(0, 0), (0, len(text)), (0, 0)], rng.standard_normal((3, 5)).astype(np.float16)) for text in texts]


def test_resampling_gives_the_same_pcm_to_the_last_bit_but_one(tmp_path):
    recordings = resampling.write_recordings([Clip(str(seed), "", speechlike(8000, seed)) for seed in range(3)], tmp_path / "recordings")
    ours, reference = resampling.ours(recordings), resampling.reference(recordings)
    for number in range(3):
        expected, rate_hz = soundfile.read(reference / f"{number:05d}.wav", dtype="int16")
        found = np.fromfile(shard_path(ours, shard_hash(f"{number:05d}") % 16), dtype="<i2")
        assert rate_hz == resampling.PARAMS.sample_rate_hz
        assert any(np.abs(piece.astype(int) - expected).max() <= 1 for piece in rows_of_length(found, len(expected)))


def rows_of_length(samples, length):
    """Every place where a row of a shard that holds few rows can lie: at its beginning or its end."""
    return samples[:length], samples[-length:]


def test_the_resample_stages_own_way_gives_the_same_shards(tmp_path, monkeypatch):
    monkeypatch.setenv("VOICE_WORKERS", "1")
    monkeypatch.setenv("VOICE_ROW_STORE", "")  # set by the side itself
    recordings = resampling.write_recordings([Clip(str(seed), "", speechlike(8000, seed)) for seed in range(3)], tmp_path / "recordings")
    sides = resampling.ours(recordings), resampling.ours_as_stage(recordings)
    of_rows, of_stage = ({path.name: path.read_bytes() for path in (folder / "shards").iterdir()} for folder in sides)
    assert of_rows == of_stage


def test_torch_frames_as_rows_are_bitwise_the_usual_magnitudes():
    pcm = speechlike(30000, 1)
    expected = stft.reference(pcm, torch.hann_window(2048)).t().numpy()
    assert stft.agreement([stft.ours_torch(pcm)], [expected]) == stft.agreement([stft.ours_clip(pcm)], [expected]) == stft.EQUAL


def test_agreement_is_told_as_it_is():
    ones = np.ones(4, np.float32)
    assert stft.agreement([ones * 1.5], [ones]).startswith("NOT bitwise equal: 0.0%")


def test_shards_and_files_hold_the_same_clip(tmp_path):
    readers = loading.ClipReaders(corpora.prepare(make_clips(), loading.SETTINGS, random_features), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index in range(len(WORDS)):
            torch.testing.assert_close(readers.ours(index), readers.reference(index), rtol=1e-3, atol=1e-6)
    readers.limit(0)


@pytest.mark.parametrize("cached", [True, False])
def test_both_loaders_give_the_same_batch(tmp_path, cached):
    utterances = corpora.prepare(make_clips(), loading.SETTINGS, random_features)
    source = corpora.write_sharded(utterances, tmp_path / "shards", loading.SETTINGS, cached=cached)
    loader = loading.PerFileLoader(corpora.write_per_file(utterances, tmp_path / "files", loading.SETTINGS))
    expected = loader.batch([0, 1, 2, 3])
    order = expected["indices"].tolist()
    found = BatchDataset(source, [order], source.facts.bert_channels, loading.SETTINGS.hop_samples)[0].to(torch.device("cpu"))
    for name in ("indices", "phone_ids", "tone_ids", "language_ids", "phone_lengths", "frame_lengths"):
        assert torch.equal(getattr(found, name), expected[name]), name
    torch.testing.assert_close(found.bert["EN"], expected["bert"])
    torch.testing.assert_close(found.linear, expected["linear"], rtol=1e-3, atol=1e-6)
    n_samples = min(found.waveform.shape[1], expected["waveform"].shape[1])
    torch.testing.assert_close(found.waveform[:, :n_samples], expected["waveform"][:, :n_samples])


def test_both_searches_find_the_same_path_for_mixed_lengths():
    scores = alignment_search.make_scores(3, 30, 11, seed=3)
    frames, phones = torch.tensor([30, 25, 12]), torch.tensor([11, 7, 11])
    mask = (torch.arange(30)[None, :, None] < frames[:, None, None]) & (torch.arange(11)[None, None, :] < phones[:, None, None])
    path = alignment_search.reference(scores, mask.float())
    assert torch.equal(path.sum(2), mask.any(2).float())
    assert torch.equal(path.sum(1).long(), search_durations(scores, frames, phones))


def test_buckets_repeat_and_drop_where_our_sampler_does_neither():
    n_frames = np.concatenate([np.arange(40, 140), [20, 1500]])
    theirs = [index for batch in padding.bucket_batches(n_frames, 24, padding.BUCKET_EDGES_FRAMES, 0) for index in batch]
    ours = [index for batch in padding.our_batches(n_frames, 0) for index in batch]
    assert len(theirs) == 120 and set(theirs) == set(range(100))
    assert sorted(ours) == list(range(102))


def test_a_bucket_takes_lengths_above_its_lower_edge_up_to_its_upper_edge():
    n_frames = np.array([32, 33, 300, 301, 1000, 1001])
    batches = padding.bucket_batches(n_frames, 2, padding.BUCKET_EDGES_FRAMES, 0)
    assert sorted(sorted(batch) for batch in batches) == [[1, 2], [3, 3], [4, 4]]
    assert padding_share(n_frames, [[1, 2]]) == pytest.approx(267 / 600)


def test_batches_of_equal_length_give_the_features_of_one_text_at_a_time():
    token_ids = [(101, 2028, 102), (101, 2048, 2616, 102), (101, 2093, 102)]
    found, expected = bert_batches.ours(token_ids), bert_batches.reference(bert_batches.load_reference(), token_ids)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), atol=2e-3)


def test_the_large_encoders_sides_agree_on_every_phone(tmp_path, monkeypatch):
    for name, value in (("N_LAYERS", 4), ("N_HIDDEN", 32), ("N_INNER", 64), ("N_HEADS", 2)):
        monkeypatch.setattr(bert_large, name, value)
    source = bert_large.write_encoder(tmp_path)
    lines = bert_large.read_lines(bert_large.LINES[:4])
    found = bert_batches.ours([line.token_ids for line in lines], source)
    expected = bert_large.reference(AutoModel.from_pretrained(tmp_path).eval(), lines)
    for line, ours, theirs in zip(lines, found, expected, strict=True):
        assert theirs.shape == (32, len(line.phone_tokens))
        np.testing.assert_allclose(ours[list(line.phone_tokens)].T.astype(np.float32), theirs, atol=2e-3)


def test_full_batches_hold_different_texts_of_two_lengths():
    texts = bert_large.full_batches(bert_large.read_lines(bert_large.LINES))
    lengths = sorted({len(text) for text in texts})
    assert len(lengths) == 2 and len(set(texts)) == len(texts)
    assert all(1024 - length < sum(len(text) for text in texts if len(text) == length) <= 1024 for length in lengths)


def test_stored_features_are_smaller_per_token(tmp_path):
    result = bert_large.bert_bytes(make_clips(), tmp_path)
    assert result.ratio == pytest.approx(result.reference / result.ours) and result.ratio > 7.5


@pytest.mark.parametrize("run", [loading.read_clip, loading.read_clip_cold, loading.spectrogram_bytes, stft.stft])
def test_benchmarks_of_clips_take_all_that_there_are(tmp_path, run):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = run(make_clips(), tmp_path)
    assert result.ratio == pytest.approx(result.reference / result.ours)
    assert not list(tmp_path.iterdir())


def test_a_made_up_manifest_is_opened_and_planned(tmp_path):
    table = manifest_million.split_table(300)
    write_manifest(tmp_path / "split.parquet", table)
    manifest_million.write_lines(table, tmp_path / "lines.txt")
    assert len(manifest_million.open_ours(tmp_path)["seconds"]) == 2
    assert manifest_million.open_lines(tmp_path / "lines.txt")["seconds"][0] > 0


def test_dvc_looks_after_the_same_clips_on_both_sides(tmp_path):
    dvc_files.write_both(make_clips(), tmp_path / "files", tmp_path / "shards")
    names = [f"speaker-{number}-{take}" for number in range(len(WORDS)) for take in range(dvc_files.TAKES)]
    files = {path.name: path for path in (tmp_path / "files").rglob("*.*")}
    assert sorted(files) == sorted(f"{name}.{kind}" for name in names for kind in ("wav", "spec.pt", "bert.pt"))
    assert len({path.read_bytes() for path in files.values()}) == len(files)
    for name in names:
        spectrogram, features = (torch.load(files[f"{name}.{kind}.pt"]) for kind in ("spec", "bert"))
        assert spectrogram.dtype == features.dtype == torch.float32 and features.shape[0] == dvc_files.N_CHANNELS
        stored = spectrogram.t().half().contiguous().numpy().tobytes()
        assert stored in shard_path(tmp_path / "shards" / "spectrogram", shard_hash(name) % 16).read_bytes()
        pcm = soundfile.read(files[f"{name}.wav"], dtype="int16")[0].tobytes()
        assert pcm in shard_path(tmp_path / "shards" / "resample", shard_hash(name) % 16).read_bytes()
