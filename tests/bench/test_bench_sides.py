"""Both sides of each benchmark compute the same, on tiny input."""

import warnings

import numpy as np
import pytest
import soundfile
import torch

from bench import alignment_search, bert_batches, dvc_files, load_batch, many_rows, padding, resample, stft
from bench.harness import corpora
from bench.harness.encoder import ENCODER
from bench.harness.plain_networks import search_full_table
from bench.harness.speech import Clip
from model.bert.encoder import MAX_BATCH_TOKENS
from model.networks.alignment_search import search_durations
from model.training.dataset import BatchDataset
from model.training.sampler import padding_share
from stages.common.manifests import write_manifest
from stages.rows.shards import shard_hash, shard_path

WORDS = ("one", "two words", "three short words", "a longer line with more words")


def speechlike(n_samples, seed):
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * 150 * np.arange(n_samples) / 16000) * 6000 + rng.normal(0, 500, n_samples)
    return np.rint(wave).astype(np.int16)


def make_clips():
    return [
        Clip(f"speaker/{number}", text, speechlike(9000 + 2500 * number, number)) for number, text in enumerate(WORDS)
    ]


def random_features(texts):
    rng = np.random.default_rng(0)
    return [
        corpora.TokenFeatures([(0, 0), (0, len(text)), (0, 0)], rng.standard_normal((3, 5)).astype(np.float16))
        for text in texts
    ]


def test_resampling_by_row_by_stage_and_by_librosa_gives_the_same_pcm(tmp_path, monkeypatch):
    monkeypatch.setenv("VOICE_WORKERS", "1")
    monkeypatch.setenv("VOICE_ROW_STORE", "")  # set by the side itself
    clips = [Clip(str(seed), "", speechlike(8000, seed)) for seed in range(3)]
    recordings = resample.write_recordings(clips, tmp_path / "recordings")
    by_row, by_stage, reference = (
        resample.ours(recordings),
        resample.ours_as_stage(recordings),
        resample.reference(recordings),
    )
    of_rows, of_stage = (
        {path.name: path.read_bytes() for path in (folder / "shards").iterdir()} for folder in (by_row, by_stage)
    )
    assert of_rows == of_stage
    for number in range(3):
        expected, rate_hz = soundfile.read(reference / f"{number:05d}.wav", dtype="int16")
        found = np.fromfile(shard_path(by_row, shard_hash(f"{number:05d}") % 16), dtype="<i2")
        assert rate_hz == resample.PARAMS.sample_rate_hz
        ends = found[: len(expected)], found[-len(expected) :]  # of three rows, each begins or ends its shard
        assert any(np.abs(end.astype(int) - expected).max() <= 1 for end in ends)


def test_torch_frames_as_rows_are_bitwise_the_usual_magnitudes():
    pcm = speechlike(30000, 1)
    expected = stft.reference(pcm, torch.hann_window(2048)).t().numpy()
    assert (
        stft.agreement([stft.ours_torch(pcm)], [expected])
        == stft.agreement([stft.ours_clip(pcm)], [expected])
        == stft.EQUAL
    )


def test_agreement_is_told_as_it_is():
    ones = np.ones(4, np.float32)
    assert stft.agreement([ones * 1.5], [ones]).startswith("NOT bitwise equal: 0.0%")


@pytest.mark.parametrize("cached", [True, False])
def test_both_loaders_give_the_same_batch(tmp_path, cached):
    utterances = corpora.prepare(make_clips(), load_batch.SETTINGS, random_features)
    source = corpora.write_sharded(utterances, tmp_path / "shards", load_batch.SETTINGS, cached=cached)
    loader = load_batch.PerFileLoader(corpora.write_per_file(utterances, tmp_path / "files", load_batch.SETTINGS))
    expected = loader.batch([0, 1, 2, 3])
    order = expected["indices"].tolist()
    found = BatchDataset(source, [order], source.facts.bert_channels, load_batch.SETTINGS.hop_samples)[0].to(
        torch.device("cpu")
    )
    for name in ("indices", "phone_ids", "tone_ids", "language_ids", "phone_lengths", "frame_lengths"):
        assert torch.equal(getattr(found, name), expected[name]), name
    torch.testing.assert_close(found.bert["EN"], expected["bert"])
    torch.testing.assert_close(found.linear, expected["linear"], rtol=1e-3, atol=1e-6)
    n_samples = min(found.waveform.shape[1], expected["waveform"].shape[1])
    torch.testing.assert_close(found.waveform[:, :n_samples], expected["waveform"][:, :n_samples])


def test_both_searches_find_the_same_path_for_mixed_lengths():
    scores = alignment_search.make_scores(3, 30, 11, seed=3)
    frames, phones = torch.tensor([30, 25, 12]), torch.tensor([11, 7, 11])
    mask = (torch.arange(30)[None, :, None] < frames[:, None, None]) & (
        torch.arange(11)[None, None, :] < phones[:, None, None]
    )
    path = search_full_table(scores, mask.float())
    assert torch.equal(path.sum(2), mask.any(2).float())
    assert torch.equal(path.sum(1).long(), search_durations(scores, frames, phones))


def test_buckets_repeat_and_drop_where_our_sampler_does_neither():
    n_frames = np.concatenate([np.arange(40, 140), [20, 1500]])
    theirs = [
        index for batch in padding.bucket_batches(n_frames, 24, padding.BUCKET_EDGES_FRAMES, 0) for index in batch
    ]
    ours = [index for batch in padding.our_batches(n_frames, 0) for index in batch]
    assert len(theirs) == 120 and set(theirs) == set(range(100))
    assert sorted(ours) == list(range(102))


def test_a_bucket_takes_lengths_above_its_lower_edge_up_to_its_upper_edge():
    n_frames = np.array([32, 33, 300, 301, 1000, 1001])
    batches = padding.bucket_batches(n_frames, 2, padding.BUCKET_EDGES_FRAMES, 0)
    assert sorted(sorted(batch) for batch in batches) == [[1, 2], [3, 3], [4, 4]]
    assert padding_share(n_frames, [[1, 2]]) == pytest.approx(267 / 600)


@pytest.mark.parametrize("large", [False, True])
def test_batches_of_equal_length_give_the_features_of_one_text_at_a_time(tmp_path, monkeypatch, large):
    for name, value in (("N_LAYERS", 4), ("N_HIDDEN", 32), ("N_INNER", 64), ("N_HEADS", 2)):
        monkeypatch.setattr(bert_batches, name, value)
    source = bert_batches.write_large_encoder(tmp_path) if large else ENCODER
    token_ids = [(101, 2028, 102), (101, 2048, 2616, 102), (101, 2093, 102)]
    found = bert_batches.ours(source, token_ids)
    expected = bert_batches.reference(bert_batches.load_reference(source), source.layer, token_ids)
    for ids, a, b in zip(token_ids, found, expected, strict=True):
        assert a.shape == b.shape == (len(ids), 32 if large else 384)
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), atol=2e-3)


def test_the_limit_of_bert_has_as_many_tokens_as_full_batches():
    texts = bert_batches.full_batches()
    for length in bert_batches.LARGE_LENGTHS:
        n_tokens = sum(len(text) for text in texts if len(text) == length)
        assert MAX_BATCH_TOKENS - length < n_tokens <= MAX_BATCH_TOKENS


@pytest.mark.parametrize(
    ("run", "names"),
    [
        (load_batch.run, ["load_batch", "load_batch_on_the_fly", "spectrogram_bytes"]),
        (stft.run, ["stft", "stft_torch"]),
    ],
)
def test_benchmarks_of_clips_measure_all_of_them_and_leave_nothing(tmp_path, run, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = run(clips=make_clips(), scratch=tmp_path)
    assert [result.name for result in results] == names
    assert all(result.ratio == pytest.approx(result.reference / result.ours) for result in results)
    assert not list(tmp_path.iterdir())


def test_a_manifest_of_made_up_rows_is_opened_and_an_epoch_planned(tmp_path):
    write_manifest(tmp_path / "split.parquet", many_rows.split_table(300))
    figures = many_rows.open_million(tmp_path)
    assert figures["open"] > 0 and figures["plan"] > 0


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
