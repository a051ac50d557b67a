"""Resample stage: mono 16-bit PCM at the target rate, exactly what soxr gives, and nothing of a recording that changed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from stages import corpus, resample
from stages.common import audio, manifests
from stages.common.errors import PipelineError
from stages.common.params import from_mapping
from stages.common.shards import ShardReader
from stages.resample import ResampleParams, to_pcm
from tests.small_corpus import CORPUS_VALUES, PROMPTS, SmallCorpus, copy_prompts, folder_bytes, reasons, utterance_ids, write_transcripts

pytestmark = pytest.mark.usefixtures("workspace")


def run(source: Path = Path("corpus"), out: str = "out", **changes: Any) -> None:
    values = {"sample_rate_hz": 16000, "quality": "HQ", "max_reject_share": 0.5, **changes}
    resample.main(source, Path(out), ResampleParams(**values))


def describe(recordings: dict[str, str], folder: str = "recordings") -> None:
    """Run the corpus stage over `folder`."""
    write_transcripts(Path("transcripts.csv"), recordings)
    values = {**CORPUS_VALUES, "recordings": folder, "transcripts": "transcripts.csv", "max_reject_share": 0.5, "min_seconds": 0.0}
    corpus.main(Path("corpus"), corpus.CorpusParams(**values))


def pcm_of(out: Path, utterance_id: str) -> npt.NDArray[np.int16]:
    rows = {row["utterance_id"]: row for row in manifests.read_manifest(out / "resample.parquet", manifests.RESAMPLE).to_pylist()}
    row = rows[utterance_id]
    with ShardReader(out) as reader:
        return reader.read_array(row["shard"], row["offset_bytes"], (row["n_samples"],), "int16")


def noise(n_samples: int, channels: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(0, 0.1, (n_samples, channels)).astype(np.float32)


def test_recordings_at_the_target_rate_keep_their_samples(small_corpus: SmallCorpus) -> None:
    decoded = audio.decode((small_corpus.recordings / "allison" / "conf-full.g722").read_bytes(), ".g722").samples[:, 0]
    pcm = pcm_of(small_corpus.resample, "allison/conf-full")
    assert np.array_equal(pcm, np.rint(decoded * 32768).clip(-32768, 32767).astype(np.int16))


@pytest.mark.parametrize(("rate_hz", "target_hz", "quality"), [(44100, 16000, "HQ"), (8000, 22050, "VHQ"), (48000, 44100, "HQ")])
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
    pcm = to_pcm(samples, 16000, ResampleParams(16000, "HQ", 0.0))
    assert np.abs(pcm / 32768 - samples.mean(axis=1)).max() <= 0.51 / 32768


def test_what_overflows_is_clipped() -> None:
    pcm = to_pcm(np.array([[1.5], [-1.5], [1.0], [0.0]], dtype=np.float32), 16000, ResampleParams(16000, "HQ", 0.0))
    assert pcm.tolist() == [32767, -32768, 32767, 0]


def test_the_manifest_describes_the_samples(small_corpus: SmallCorpus) -> None:
    table = manifests.read_manifest(small_corpus.resample / "resample.parquet", manifests.RESAMPLE)
    assert table.column("utterance_id").to_pylist() == utterance_ids(small_corpus.corpus / "corpus.parquet")
    for row in table.to_pylist():
        pcm = pcm_of(small_corpus.resample, row["utterance_id"])
        assert row["pcm_sha256"] == hashlib.sha256(pcm.tobytes()).hexdigest()
        assert row["peak"] == pytest.approx(np.abs(pcm / 32768).max())
        assert row["rms"] == pytest.approx(np.sqrt(np.mean((pcm / 32768) ** 2)))


def test_workers_history_and_scratch_give_the_same_bytes(small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    describe(copy_prompts(Path("recordings"), PROMPTS[:7]))
    run(out="earlier")
    monkeypatch.setenv("VOICE_WORKERS", "2")
    run(small_corpus.corpus)
    assert folder_bytes(Path("out")) == folder_bytes(small_corpus.resample)


def test_only_new_recordings_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    real = resample.process
    monkeypatch.setattr(resample, "process", lambda source, params: decoded.append(Path(source.path).stem) or real(source, params))
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
    ("changes", "message"), [({"sample_rate_hz": 1}, "outside 4000–192000"), ({"quality": "BEST"}, "not one of QQ, LQ, MQ, HQ, VHQ")]
)
def test_values_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        from_mapping(ResampleParams, {"sample_rate_hz": 16000, "quality": "HQ", "max_reject_share": 0.05, **changes}, where="resample")
    assert message in str(caught.value)
