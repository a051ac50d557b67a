"""Spectrogram stage: the cache holds what training would compute from the PCM, number for number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.harness.shard_files import write_named_shards
from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import linear_spectrogram
from model.text.symbols import SymbolTable
from model.training.dataset import BatchDataset
from stages.common import manifests
from stages.common.command import from_mapping
from stages.common.errors import PipelineError
from stages.rows.shards import ShardReader
from stages.spectrogram import stage as spectrogram
from stages.spectrogram.stage import SpectrogramParams
from stages.split import stage as split
from stages.train.manifest_source import DataFolders, ManifestSource, read_split
from tests.small_corpus import SPECTROGRAM_VALUES, SPLIT_VALUES, SmallCorpus, folder_bytes, reasons

pytestmark = pytest.mark.usefixtures("workspace")
SETTINGS = SpectrogramSettings(16000, 1024, 256, 1024, 80, 0.0, None)


def run(resample: Path, out: str = "out", **changes: Any) -> None:
    spectrogram.main(resample, Path(out), SpectrogramParams(**{**SPECTROGRAM_VALUES, **changes}))


def write_resampled(clips: dict[str, np.ndarray], folder: str = "resample") -> Path:
    """Write what the resample stage would of these clips."""
    placed = write_named_shards(Path(folder), clips, lambda name: clips[name].astype("<i2").tobytes())
    rows = [
        {
            "utterance_id": name,
            "shard": shard,
            "offset_bytes": offset,
            "n_samples": len(clips[name]),
            "pcm_xxh3": name,
            "gain_db": 0.0,
            "trimmed_start_seconds": 0.0,
            "trimmed_end_seconds": 0.0,
        }
        for name, (shard, offset) in placed.items()
    ]
    manifests.write_manifest(
        Path(folder) / "resample.parquet",
        manifests.table_from_rows(rows, manifests.RESAMPLE, {"sample_rate_hz": 16000}),
    )
    return Path(folder)


def noise(n_samples: int) -> np.ndarray:
    return np.random.default_rng(n_samples).integers(-8000, 8000, n_samples)


def sources(small_corpus: SmallCorpus, spectrograms: Path) -> list[ManifestSource]:
    """Return the three subsets of the small corpus with another spectrogram folder."""
    folders = small_corpus
    split.main(
        folders.corpus,
        folders.resample,
        folders.clean_text,
        spectrograms,
        folders.bert,
        Path("split"),
        split.SplitParams(**SPLIT_VALUES),
    )
    table, facts = read_split(Path("split"))
    data = DataFolders(Path("split"), folders.resample, spectrograms, folders.bert)
    return [
        ManifestSource(data, table, facts, subset, SymbolTable(), False) for subset in ("train", "validation", "test")
    ]


def test_training_reads_the_same_arrays_from_the_cache_and_on_the_fly(small_corpus: SmallCorpus) -> None:
    run(small_corpus.resample, source="on_the_fly")
    n_compared = 0
    for cached, computed in zip(
        sources(small_corpus, small_corpus.spectrogram), sources(small_corpus, Path("out")), strict=True
    ):
        assert (cached.facts.spectrogram_cached, computed.facts.spectrogram_cached) == (True, False)
        assert np.array_equal(cached.n_frames, computed.n_frames)
        for index in range(len(cached)):
            one, other = (
                BatchDataset(each, [[index]], {}, each.facts.spectrogram.hop_samples)[0] for each in (cached, computed)
            )
            assert one.linear.dtype == other.linear.dtype == torch.float16
            assert torch.equal(one.linear, other.linear) and torch.equal(one.waveform, other.waveform)
            assert one.linear.shape[1] == cached.n_frames[index]
            n_compared += 1
    assert n_compared == 12


def test_on_the_fly_writes_no_shards(small_corpus: SmallCorpus) -> None:
    run(small_corpus.resample, source="on_the_fly")
    assert sorted(path.name for path in Path("out").rglob("*")) == ["rejects.parquet", "spectrogram.parquet"]


def test_the_cache_holds_rounded_magnitudes() -> None:
    pcm = noise(8000)
    run(write_resampled({"a": pcm, "b": noise(9000)}))
    rows = manifests.read_manifest(Path("out/spectrogram.parquet"), manifests.SPECTROGRAM).to_pylist()
    with ShardReader(Path("out")) as reader:
        stored = reader.read_array(rows[0]["shard"], rows[0]["offset_bytes"], (rows[0]["n_frames"], 513), "float16")
    assert rows[0]["n_frames"] == SETTINGS.frame_count(8000)
    assert np.array_equal(stored, linear_spectrogram(pcm.astype(np.int16), SETTINGS).astype(np.float16))


def test_a_clip_too_short_to_transform_is_rejected_by_both_sources() -> None:
    resampled = write_resampled(
        {"a": noise(8000), "b": noise(SETTINGS.min_samples - 1), "c": noise(SETTINGS.min_samples)}
    )
    for source in ("cache", "on_the_fly"):
        run(resampled, source, source=source, max_reject_share=0.5)
        assert reasons(Path(source)) == {"b": "too_short"}


def test_workers_and_neighbours_change_nothing(small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "2")
    run(small_corpus.resample)
    assert folder_bytes(Path("out")) == folder_bytes(small_corpus.spectrogram)


def test_mel_settings_do_not_recompute_the_linear_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    resampled = write_resampled({"a": noise(8000)})
    run(resampled)
    monkeypatch.setattr(spectrogram, "half_spectrogram", None)  # any use of it now fails
    run(resampled, n_mels=40, mel_fmin_hz=50.0)
    assert manifests.read_metadata(Path("out/spectrogram.parquet"))["settings"]["n_mels"] == 40
    with pytest.raises(PipelineError, match="unexpected_error"):
        run(resampled, hop_samples=200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "disk"}, "source should be 'cache' or 'on_the_fly', found 'disk'"),
        ({"mel_fmin_hz": "low"}, "mel_fmin_hz should be a valid number, found 'low'"),
        ({"hop_samples": 0}, "hop_samples should be greater than 0, found 0"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        from_mapping(SpectrogramParams, {**SPECTROGRAM_VALUES, **changes}, where="spectrogram")
    assert message in str(caught.value)


@pytest.mark.parametrize("changes", [{"win_samples": 2048}, {"mel_fmax_hz": 9000.0}])
def test_settings_that_cannot_work_at_the_sample_rate_are_clear_errors(changes: dict[str, Any]) -> None:
    resampled = write_resampled({"a": noise(8000)})
    with pytest.raises(PipelineError, match=r"params\.yaml: spectrogram: "):
        run(resampled, **changes)
    assert not Path("out").exists()
