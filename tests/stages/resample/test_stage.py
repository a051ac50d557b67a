"""Resample stage: mono 16-bit PCM at the target rate, equal to soxr's output; changed recordings are rejected."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr
from xxhash import xxh3_128_hexdigest

from stages.audio import decode as audio
from stages.audio.loudness import integrated_lufs
from stages.common import manifests
from stages.common.command import from_mapping
from stages.common.errors import PipelineError
from stages.corpus import stage as corpus
from stages.corpus.params import CorpusParams
from stages.resample import stage as resample
from stages.resample.stage import ResampleParams, to_pcm
from stages.rows.shards import ShardReader
from tests.small_corpus import (
    CORPUS_VALUES,
    PROMPTS,
    SmallCorpus,
    copy_prompts,
    folder_bytes,
    reasons,
    utterance_ids,
    write_transcripts,
)

pytestmark = pytest.mark.usefixtures("workspace")


def run(source: Path = Path("corpus"), out: str = "out", **changes: Any) -> None:
    values = {"sample_rate_hz": 16000, "quality": "HQ", "max_reject_share": 0.5, **changes}
    resample.main(source, Path(out), ResampleParams(**values))


def describe(recordings: dict[str, str], folder: str = "recordings") -> None:
    """Run the corpus stage over `folder`."""
    write_transcripts(Path("transcripts.csv"), recordings)
    values = {
        **CORPUS_VALUES,
        "recordings": folder,
        "transcripts": "transcripts.csv",
        "max_reject_share": 0.5,
        "min_seconds": 0.0,
    }
    corpus.main(Path("corpus"), CorpusParams(**values))


def pcm_of(out: Path, utterance_id: str) -> npt.NDArray[np.int16]:
    rows = {
        row["utterance_id"]: row
        for row in manifests.read_manifest(out / "resample.parquet", manifests.RESAMPLE).to_pylist()
    }
    row = rows[utterance_id]
    with ShardReader(out) as reader:
        return reader.read_array(row["shard"], row["offset_bytes"], (row["n_samples"],), "int16")


def noise(n_samples: int, channels: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(0, 0.1, (n_samples, channels)).astype(np.float32)


def test_recordings_at_the_target_rate_keep_their_samples(small_corpus: SmallCorpus) -> None:
    decoded = audio.decode((small_corpus.recordings / "allison" / "conf-full.g722").read_bytes(), ".g722").samples[:, 0]
    pcm = pcm_of(small_corpus.resample, "allison/conf-full")
    assert np.array_equal(pcm, np.rint(decoded * 32768).clip(-32768, 32767).astype(np.int16))


@pytest.mark.parametrize(
    ("rate_hz", "target_hz", "quality"), [(44100, 16000, "HQ"), (8000, 22050, "VHQ"), (48000, 44100, "HQ")]
)
def test_other_rates_are_what_soxr_makes_of_them(rate_hz: int, target_hz: int, quality: str) -> None:
    samples = noise(rate_hz)
    soundfile.write(Path("a.wav"), samples, rate_hz, subtype="FLOAT")
    describe({"a.wav": "Noise."}, ".")
    run(sample_rate_hz=target_hz, quality=quality)
    expected = soxr.resample(samples[:, 0], rate_hz, target_hz, quality=quality)
    assert np.array_equal(pcm_of(Path("out"), "a"), np.rint(expected * 32768).astype(np.int16))
    assert manifests.read_metadata(Path("out/resample.parquet")) == {"sample_rate_hz": target_hz}


def test_channels_are_averaged() -> None:
    samples = noise(1000, channels=3)
    pcm = to_pcm(samples, 16000, ResampleParams(16000, "HQ", 0.0)).pcm
    assert np.abs(pcm / 32768 - samples.mean(axis=1)).max() <= 0.51 / 32768


def test_what_overflows_is_clipped() -> None:
    pcm = to_pcm(np.array([[1.5], [-1.5], [1.0], [0.0]], dtype=np.float32), 16000, ResampleParams(16000, "HQ", 0.0)).pcm
    assert pcm.tolist() == [32767, -32768, 32767, 0]


def loudness_of(pcm: npt.NDArray[np.int16]) -> float:
    loudness = integrated_lufs((pcm / 32768).astype(np.float32), 16000)
    assert loudness is not None
    return loudness


def facts_of(column: str) -> dict[str, float]:
    table = pq.read_table("out/resample.parquet")
    return dict(zip(table.column("utterance_id").to_pylist(), table.column(column).to_pylist(), strict=True))


def test_by_default_the_sound_is_left_as_it_is(small_corpus: SmallCorpus) -> None:
    for row in pq.read_table(small_corpus.resample / "resample.parquet").to_pylist():
        assert (row["gain_db"], row["trimmed_start_seconds"], row["trimmed_end_seconds"]) == (0, 0, 0)


def test_every_recording_comes_to_one_loudness_below_the_peak_ceiling(small_corpus: SmallCorpus) -> None:
    run(small_corpus.corpus, loudness_lufs=-23.0)
    for utterance_id, gain_db in facts_of("gain_db").items():
        before, after = pcm_of(small_corpus.resample, utterance_id), pcm_of(Path("out"), utterance_id)
        assert loudness_of(after) == pytest.approx(-23.0, abs=0.02)
        assert np.abs(after / 32768 - before / 32768 * 10 ** (gain_db / 20)).max() <= 2 / 32768
    run(small_corpus.corpus, loudness_lufs=-5.0, peak_ceiling_dbfs=-3.0)
    for utterance_id in utterance_ids(Path("out/resample.parquet")):
        assert 20 * np.log10(np.abs(pcm_of(Path("out"), utterance_id)).max() / 32768) == pytest.approx(-3.0, abs=0.01)


@pytest.mark.parametrize("trim", ["energy", "vad"])
def test_silence_at_both_ends_is_cut_off_and_told(small_corpus: SmallCorpus, trim: str) -> None:
    spoken = pcm_of(small_corpus.resample, "allison/conf-full")
    silence = (noise(16000)[:, 0] * 100).astype(np.int16)
    soundfile.write("a.wav", np.concatenate([silence, spoken, silence[:8000]]), 16000, subtype="PCM_16")
    describe({"a.wav": "That conference is full."}, ".")
    run(trim=trim, trim_margin_seconds=0.05)
    pcm, row = pcm_of(Path("out"), "a"), pq.read_table("out/resample.parquet").to_pylist()[0]
    start, end = round(row["trimmed_start_seconds"] * 16000), round(row["trimmed_end_seconds"] * 16000)
    assert 0.9 < row["trimmed_start_seconds"] < 1.3 and 0.4 < row["trimmed_end_seconds"] < 0.9
    assert row["n_samples"] == len(pcm) == 24000 + len(spoken) - start - end
    assert np.array_equal(pcm, np.concatenate([silence, spoken, silence[:8000]])[start : start + len(pcm)])


def test_trimming_a_recording_without_speech_rejects_it() -> None:
    soundfile.write("hiss.wav", noise(32000) / 50, 16000)
    describe({"hiss.wav": "Nothing.", **copy_prompts(Path("."), PROMPTS[:2])}, ".")
    run(trim="vad")
    assert reasons(Path("out")) == {"hiss": "no_speech"}


def test_trimmed_and_levelled_from_scratch_in_part_and_by_two_workers_are_the_same_bytes(
    small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(copy_prompts(Path("recordings"), PROMPTS[:7]))
    done = {"trim": "vad", "loudness_lufs": -23.0}
    run(**done)
    run(small_corpus.corpus, out="incremental", **done)
    monkeypatch.setenv("VOICE_WORKERS", "2")
    monkeypatch.setenv("VOICE_ROW_STORE", "another store")
    run(small_corpus.corpus, out="scratch", **done)
    assert folder_bytes(Path("incremental")) == folder_bytes(Path("scratch")) != folder_bytes(small_corpus.resample)


def test_the_manifest_describes_the_samples(small_corpus: SmallCorpus) -> None:
    table = manifests.read_manifest(small_corpus.resample / "resample.parquet", manifests.RESAMPLE)
    assert table.column("utterance_id").to_pylist() == utterance_ids(small_corpus.corpus / "corpus.parquet")
    for row in table.to_pylist():
        pcm = pcm_of(small_corpus.resample, row["utterance_id"])
        assert row["pcm_xxh3"] == xxh3_128_hexdigest(pcm.tobytes())
        assert row["n_samples"] == len(pcm)


def test_workers_history_and_scratch_give_the_same_bytes(
    small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(copy_prompts(Path("recordings"), PROMPTS[:7]))
    run(out="earlier")
    monkeypatch.setenv("VOICE_WORKERS", "2")
    run(small_corpus.corpus)
    assert folder_bytes(Path("out")) == folder_bytes(small_corpus.resample)


def test_only_new_recordings_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    real = resample.process
    monkeypatch.setattr(
        resample, "process", lambda source, params: decoded.append(Path(source.path).stem) or real(source, params)
    )
    describe(copy_prompts(Path("recordings"), PROMPTS[:3]))
    run()
    assert sorted(decoded) == sorted(PROMPTS[:3])
    decoded.clear()
    describe(copy_prompts(Path("recordings"), PROMPTS[:4]))
    run()
    assert decoded == [PROMPTS[3]]
    decoded.clear()
    run(sample_rate_hz=8000)
    assert sorted(decoded) == sorted(PROMPTS[:4])


def test_a_recording_that_changed_after_the_corpus_stage_is_rejected_until_it_is_back() -> None:
    describe(copy_prompts(Path("recordings"), PROMPTS[:4]))
    changed = Path("recordings/allison") / f"{PROMPTS[0]}.g722"
    original = changed.read_bytes()
    changed.write_bytes(original[:-100])
    run()
    assert reasons(Path("out")) == {f"allison/{PROMPTS[0]}": "changed_audio"}
    changed.unlink()
    run()
    assert reasons(Path("out")) == {f"allison/{PROMPTS[0]}": "unreadable_audio"}
    changed.write_bytes(original)
    run()
    assert reasons(Path("out")) == {} and len(utterance_ids(Path("out/resample.parquet"))) == 4


def test_a_recording_silent_at_16_bits_is_rejected() -> None:
    describe(copy_prompts(Path("recordings"), PROMPTS[:3]))
    soundfile.write("recordings/allison/quiet.wav", noise(16000) * 1e-6, 16000, subtype="FLOAT")
    describe({**copy_prompts(Path("recordings"), PROMPTS[:3]), "allison/quiet.wav": "Hush."})
    run()
    assert reasons(Path("out")) == {"allison/quiet": "silent_audio"}


def test_everything_rejected_stops_the_run_and_leaves_no_output() -> None:
    describe(copy_prompts(Path("recordings"), PROMPTS[:3]))
    shutil.rmtree("recordings")
    with pytest.raises(PipelineError, match=r"3 of 3 utterances rejected \(unreadable_audio 3\)"):
        run()
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate_hz": 1}, "sample_rate_hz should be greater than or equal to 4000, found 1"),
        ({"quality": "BEST"}, "quality should be 'QQ', 'LQ', 'MQ', 'HQ' or 'VHQ', found 'BEST'"),
        ({"loudness_lufs": 3.0}, "loudness_lufs should be less than 0, found 3.0"),
        ({"peak_ceiling_dbfs": 1.0}, "peak_ceiling_dbfs should be less than or equal to 0, found 1.0"),
        ({"trim": "all"}, "trim should be 'none', 'energy' or 'vad', found 'all'"),
        ({"trim_margin_seconds": -1.0}, "trim_margin_seconds should be greater than or equal to 0, found -1.0"),
    ],
)
def test_values_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        from_mapping(
            ResampleParams,
            {"sample_rate_hz": 16000, "quality": "HQ", "max_reject_share": 0.05, **changes},
            where="resample",
        )
    assert message in str(caught.value)
