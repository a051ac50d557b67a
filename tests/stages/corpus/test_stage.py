"""Corpus stage: recordings are matched with transcripts, measured, kept or rejected, and never written to."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr

from stages.audio import decode as audio
from stages.common import manifests
from stages.common.command import from_mapping
from stages.common.errors import PipelineError
from stages.corpus import describe as describing
from stages.corpus import quality as checks
from stages.corpus import stage as corpus
from stages.corpus.matching import Candidate, find_recordings, limit_utterances, match
from stages.corpus.params import CorpusParams
from stages.corpus.quality import QualityParams
from stages.corpus.transcripts import TranscriptLine
from tests.small_corpus import (
    CORPUS_VALUES,
    PROMPTS,
    RECORDINGS,
    copy_prompts,
    default_transcripts,
    folder_bytes,
    reasons,
    utterance_ids,
    write_transcripts,
)

pytestmark = pytest.mark.usefixtures("workspace")


def run(**changes: Any) -> None:
    corpus.main(Path("out"), CorpusParams(**{**CORPUS_VALUES, "max_reject_share": 0.9, **changes}))


def problem(**changes: Any) -> str:
    with pytest.raises(PipelineError) as caught:
        run(**changes)
    message = str(caught.value)
    assert "\n" not in message
    assert not Path("out").exists()
    return message


def prompts(names: tuple[str, ...] = PROMPTS, extra: dict[str, str] | None = None) -> None:
    write_transcripts(Path("recordings/transcripts.csv"), {**copy_prompts(Path("recordings"), names), **(extra or {})})


def speech() -> np.ndarray:
    """Return the samples (S,) of a prompt at 16 kHz."""
    return audio.decode((RECORDINGS / "allison" / "conf-full.g722").read_bytes(), ".g722").samples[:, 0]


def write_samples(
    path: str, samples: np.ndarray, rate_hz: int, container: str = "WAV", subtype: str | None = None
) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, format=container, subtype=subtype)


def fingerprints(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Return relative path → mode, modification time and hash (of a link: its target) of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            hashlib.sha256(content).hexdigest(),
        )
    return found


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to read everything, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def nobodys_workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that every user may enter and write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        monkeypatch.chdir(name)
        monkeypatch.setenv("VOICE_ROW_STORE", str(Path(name, "rows")))
        yield Path(name)
        monkeypatch.chdir(workspace)


def write_wav(path: str, seconds: float = 1.0, rate_hz: int = 22050, level: float = 0.3, channels: int = 1) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0, 0.1, (int(seconds * rate_hz), channels))
    soundfile.write(path, level * noise, rate_hz)


def test_every_utterance_is_described() -> None:
    prompts()
    run()
    table = manifests.read_manifest(Path("out/corpus.parquet"), manifests.CORPUS)
    assert table.column("utterance_id").to_pylist() == sorted(f"allison/{name}" for name in PROMPTS)
    row = table.filter(pc.equal(table.column("utterance_id"), "allison/conf-full")).to_pylist()[0]
    size = Path("recordings/allison/conf-full.g722").stat().st_size
    assert (row["speaker"], row["language"], row["text"]) == ("allison", "EN", "That conference is full.")
    assert (row["sample_rate_hz"], row["n_channels"], row["n_samples"], row["container"]) == (
        16000,
        1,
        2 * size,
        "g722",
    )
    assert row["synthetic"] is False
    assert manifests.metadata_of(table) == {"recordings": "recordings", "source_note": CORPUS_VALUES["source_note"]}
    assert reasons(Path("out")) == {}


def test_every_recording_is_measured() -> None:
    prompts()
    run()
    rows = pq.read_table("out/corpus.parquet").to_pylist()
    assert all(
        -40 < row["loudness_lufs"] < -10 and row["noise_floor_dbfs"] < -30 and row["bandwidth_hz"] == 8000
        for row in rows
    )
    assert all(
        -12 < row["peak_dbfs"] < 0 and row["clipped_share"] == 0 and abs(row["dc_offset"]) < 1e-3 for row in rows
    )
    assert all(0.02 < row["seconds_per_character"] < 0.5 and row["speech_share"] is None for row in rows)
    run(quality=QualityParams(measure_speech=True))
    assert all(0.5 < share <= 1 for share in pq.read_table("out/corpus.parquet").column("speech_share").to_pylist())


def test_only_new_content_is_decoded_whatever_the_limits_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    real = audio.decode
    monkeypatch.setattr(
        audio, "decode", lambda data, suffix, *limits: decoded.append(suffix) or real(data, suffix, *limits)
    )
    prompts(PROMPTS[:3])
    run()
    assert len(decoded) == 3
    Path("recordings/allison").joinpath(f"{PROMPTS[0]}.g722").rename("recordings/allison/another.g722")
    prompts(PROMPTS[1:4], extra={"allison/another.g722": "All circuits are busy."})
    run(min_seconds=0.5, quality=QualityParams(max_noise_floor_dbfs=-10.0))
    assert len(decoded) == 4 and len(utterance_ids(Path("out/corpus.parquet"))) == 4


def test_history_order_workers_and_scratch_give_the_same_bytes_with_every_check_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "MIN_GROUP", 5)
    monkeypatch.setattr(describing, "HASH_CHUNK_FILES", 3)
    quality = QualityParams(
        measure_speech=True,
        max_clipped_share=0.01,
        max_dc_offset=0.1,
        max_noise_floor_dbfs=-20.0,
        min_loudness_lufs=-60.0,
        min_bandwidth_share=0.6,
        min_speech_share=0.3,
        duplicates="keep_first",
        max_duration_deviation=6.0,
    )
    bad = {
        "copy": speech(),
        "shifted": speech() / 2 + 0.3,
        "hush": speech() / 3000,
        "hiss": np.random.default_rng(0).normal(0, 0.01, 16000),
    }
    names = sorted(
        name for name, text in default_transcripts().items() if 20 < len(text) < 60 and not set(text) & set("[](){}<>")
    )[:20]
    prompts((*names[:5], "conf-full"))
    run(quality=quality)
    for name, samples in bad.items():
        write_samples(f"recordings/allison/{name}.wav", samples, 16000)
    Path("recordings/allison/empty.wav").touch()
    prompts(
        (*names, "conf-full"), extra={f"allison/{name}.wav": "That conference is full." for name in (*bad, "empty")}
    )
    run(quality=quality)
    found = folder_bytes(Path("out"))
    assert reasons(Path("out")) == {
        "allison/copy": "duplicate_audio",
        "allison/shifted": "dc_offset",
        "allison/hush": "too_quiet",
        "allison/hiss": "no_speech",
        "allison/empty": "empty_audio",
    }
    transcripts = Path("recordings/transcripts.csv")
    header, *lines = transcripts.read_text(encoding="utf-8").splitlines()
    transcripts.write_text("\n".join([header, *lines[::-1]]) + "\n", encoding="utf-8")
    for workers in ("1", "2"):
        monkeypatch.setenv("VOICE_WORKERS", workers)
        monkeypatch.setenv("VOICE_ROW_STORE", f"another store {workers}")
        run(quality=quality)
        assert folder_bytes(Path("out")) == found


def test_what_exceeds_the_limits_is_rejected_with_its_reason() -> None:
    spoken = speech()
    clipped = np.clip(20 * spoken, -1, 1)
    upsampled = soxr.resample(spoken, 16000, 48000)
    hum = spoken / 100 + 0.05 * np.sin(np.arange(len(spoken)) * 2 * np.pi * 200 / 16000)
    made = {
        "clipped": (clipped, 16000),
        "shifted": (spoken / 2 + 0.3, 16000),
        "hum": (hum, 16000),
        "hush": (spoken / 300, 16000),
        "fake": (upsampled, 48000),
        "telephone": (soxr.resample(spoken, 16000, 8000), 8000),
    }
    for name, (samples, rate_hz) in made.items():
        write_samples(f"recordings/allison/{name}.wav", samples, rate_hz)
    prompts(extra={f"allison/{name}.wav": "That conference is full." for name in made})
    run(
        quality=QualityParams(
            max_clipped_share=0.01,
            max_dc_offset=0.1,
            max_noise_floor_dbfs=-32.0,
            min_loudness_lufs=-55.0,
            min_bandwidth_hz=5000.0,
            min_bandwidth_share=0.6,
        )
    )
    assert reasons(Path("out")) == {
        "allison/clipped": "clipped",
        "allison/shifted": "dc_offset",
        "allison/hum": "noisy",
        "allison/hush": "too_quiet",
        "allison/fake": "upsampled",
        "allison/telephone": "narrow_band",
    }


def test_the_same_samples_under_another_name_or_in_another_container_are_kept_once() -> None:
    prompts()
    write_samples("recordings/allison/a.wav", speech(), 16000)
    write_samples("recordings/allison/b.flac", speech(), 16000, "FLAC")
    copied = Path("recordings/allison/conf-full.g722").read_bytes()
    Path("recordings/allison/copy.g722").write_bytes(copied)
    same = "That conference is full."
    prompts(extra={"allison/a.wav": same, "allison/b.flac": same, "allison/copy.g722": "Another text."})
    run()
    assert reasons(Path("out")) == {}
    run(quality=QualityParams(duplicates="keep_first"))
    details = {row["utterance_id"]: row["detail"] for row in pq.read_table("out/rejects.parquet").to_pylist()}
    assert set(reasons(Path("out")).values()) == {"duplicate_audio"}
    assert details == {
        "allison/b": "the same samples as allison/a",
        "allison/conf-full": "the same samples as allison/a",
        "allison/copy": "the same samples as allison/a, whose text is different: 'That conference is full.'",
    }


def test_a_text_that_is_not_what_is_said_is_an_unlikely_duration() -> None:
    names = tuple(
        name
        for name, text in sorted(default_transcripts().items())
        if 20 < len(text) < 60 and not set(text) & set("[](){}<>")
    )[:60]
    prompts(names)
    transcripts = Path("recordings/transcripts.csv")
    texts = transcripts.read_text(encoding="utf-8").splitlines()
    texts[7] = (
        f"allison/{names[6]}.g722,allison,EN,"
        + "These are far more words than anybody could ever have said in it. " * 6
    )
    transcripts.write_text("\n".join(texts) + "\n", encoding="utf-8")
    run(quality=QualityParams(max_duration_deviation=6.0))
    assert reasons(Path("out")) == {f"allison/{names[6]}": "unlikely_duration"}
    assert (
        "standard deviations from what is usual" in pq.read_table("out/rejects.parquet").column("detail").to_pylist()[0]
    )


def test_bad_input_of_every_kind_is_rejected_or_handled_and_stays_as_it_is(nobodys_workspace: Path) -> None:
    spoken, folder = speech(), Path("recordings/allison")
    prompts()
    for subtype in ("PCM_U8", "PCM_24", "FLOAT", "DOUBLE"):
        write_samples(f"{folder}/{subtype}.wav", spoken, 16000, subtype=subtype)
    for channels in (2, 6):
        write_samples(f"{folder}/channels-{channels}.wav", np.repeat(spoken[:, None], channels, axis=1), 16000)
    for rate_hz in (4000, 192000):
        write_samples(f"{folder}/rate-{rate_hz}.wav", soxr.resample(spoken, 16000, rate_hz), rate_hz)
    for number, name in enumerate(
        ("names with  spaces", "emoji 🎙️", "new\nline", "..up..", "{braces} & <tags>; 'quotes'", "x" * 200)
    ):
        write_samples(f"{folder}/{name}.wav", spoken * (0.5 + 0.05 * number), 16000)
    write_samples(f"{folder}/flac inside.wav", spoken, 16000, "FLAC")
    write_samples(f"{folder}/wav inside.mp3", spoken, 16000, "WAV")
    handled = {f"allison/{path.name}" for path in folder.iterdir()}
    whole = (folder / "PCM_24.wav").read_bytes()
    (folder / "truncated.wav").write_bytes(whole[:-1000])
    (folder / "empty.wav").touch()
    write_samples(f"{folder}/no samples.wav", spoken[:0], 16000)
    write_samples(f"{folder}/nan.wav", np.where(np.arange(len(spoken)) == 999, np.nan, spoken), 16000, subtype="FLOAT")
    write_samples(f"{folder}/cancels out.wav", np.stack([spoken, -spoken], axis=1), 16000)
    write_samples(f"{folder}/two hours.wav", np.zeros(7200 * 4000), 4000, subtype="PCM_U8")
    with (folder / "hours.g722").open("wb") as stream:
        stream.truncate(7200 * 8000)
    (folder / "locked.wav").write_bytes(whole)
    (folder / "locked.wav").chmod(0)
    os.symlink("loop.wav", folder / "loop.wav")
    os.symlink("..", folder / "round and round")
    os.symlink("nowhere.wav", folder / "dangling.wav")
    (folder / os.fsdecode(b"latin-\xe9.wav")).write_bytes(whole)
    expected = {
        "truncated": "damaged_audio",
        "empty": "empty_audio",
        "no samples": "empty_audio",
        "nan": "damaged_audio",
        "cancels out": "silent_audio",
        "two hours": "too_long",
        "hours": "too_long",
        "locked": "unreadable_audio",
        "loop": "unreadable_audio",
        "dangling": "unreadable_audio",
    }
    texts = {f"allison/{name}.{'g722' if name == 'hours' else 'wav'}": "Some words." for name in expected}
    texts |= {"../../etc/passwd.wav": "Not ours.", "../recordings/allison/PCM_24.wav": "Found below."}
    prompts(
        extra={name: "That conference is full." for name in sorted(handled) if name != "allison/PCM_24.wav"} | texts
    )
    before = fingerprints(Path("recordings"))
    with as_nobody():
        run()
    assert fingerprints(Path("recordings")) == before
    rejected = reasons(Path("out"))
    assert rejected.pop("allison/latin-\\xe9.wav") == "undecodable_name"
    assert rejected.pop("../../etc/passwd.wav") == "missing_audio"
    assert rejected == {f"allison/{name}": reason for name, reason in expected.items()}
    kept = pq.read_table("out/corpus.parquet").to_pylist()
    assert {row["audio_path"] for row in kept} == handled
    assert all(-40 < row["loudness_lufs"] < -10 for row in kept)
    details = dict(
        zip(*pq.read_table("out/rejects.parquet", columns=["utterance_id", "detail"]).to_pydict().values(), strict=True)
    )
    assert "Permission denied" in details["allison/locked"] and "symbolic links" in details["allison/loop"]


def test_sources_keep_their_bytes_and_times() -> None:
    prompts()
    files = sorted(Path("recordings").rglob("*"))
    for path in files:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = [(path, path.stat().st_mtime_ns, path.stat().st_mode) for path in files], folder_bytes(Path("recordings"))
    run()
    assert (
        [(path, path.stat().st_mtime_ns, path.stat().st_mode) for path in sorted(Path("recordings").rglob("*"))],
        folder_bytes(Path("recordings")),
    ) == before


def test_a_missing_folder_says_what_to_set() -> None:
    prompts()
    assert "nowhere: no such folder of recordings; run `make recordings`" in problem(recordings="nowhere")


def test_a_missing_transcript_file_says_what_to_set() -> None:
    prompts()
    assert "nowhere.csv: no such transcript file; set corpus.transcripts" in problem(transcripts="nowhere.csv")


def test_a_folder_without_recordings_names_the_known_suffixes() -> None:
    write_transcripts(Path("recordings/transcripts.csv"), {"allison/a.wav": "Hi"})
    Path("recordings/notes.txt").touch()
    assert "recordings: no recordings found; known suffixes: .wav, .flac" in problem()


def test_a_transcript_with_a_header_and_no_lines_leaves_nothing() -> None:
    copy_prompts(Path("recordings"))
    Path("recordings/transcripts.csv").write_text("audio,text\n", encoding="utf-8")
    assert "12 of 12 utterances rejected (missing_transcript 12)" in problem()


def test_what_has_no_partner_is_a_reject_with_its_reason() -> None:
    prompts(extra={"allison/lost.g722": "Nobody recorded me."})
    write_wav("recordings/allison/unwritten.wav")
    run()
    assert reasons(Path("out")) == {"allison/lost.g722": "missing_audio", "allison/unwritten.wav": "missing_transcript"}
    assert len(utterance_ids(Path("out/corpus.parquet"))) == 12


def test_unusable_recordings_and_texts_are_rejects_with_their_reasons() -> None:
    write_wav("recordings/allison/short.wav", seconds=0.3)
    write_wav("recordings/allison/long.wav", seconds=41.0, rate_hz=8000)
    write_wav("recordings/allison/silent.wav", level=0.0)
    for name in ("tone", "wordless", "foreign"):
        write_wav(f"recordings/allison/{name}.wav")
    Path("recordings/allison/empty.wav").touch()
    Path("recordings/allison/text.wav").write_text("not a recording", encoding="utf-8")
    extra = {f"allison/{name}.wav": "Some words." for name in ("short", "long", "silent", "empty", "text", "foreign")}
    prompts(extra={**extra, "allison/tone.wav": "[a long beep]", "allison/wordless.wav": " "})
    transcripts = Path("recordings/transcripts.csv")
    transcripts.write_text(
        transcripts.read_text(encoding="utf-8").replace("foreign.wav,allison,EN", "foreign.wav,allison,XX"),
        encoding="utf-8",
    )
    run()
    assert reasons(Path("out")) == {
        "allison/short": "too_short",
        "allison/long": "too_long",
        "allison/silent": "silent_audio",
        "allison/empty": "empty_audio",
        "allison/text": "damaged_audio",
        "allison/tone": "non_speech",
        "allison/wordless": "empty_text",
        "allison/foreign": "unknown_language",
    }
    assert len(utterance_ids(Path("out/corpus.parquet"))) == 12


@pytest.mark.parametrize("language", ["ZH", "JP", "EN"])
def test_a_text_with_undecodable_bytes_is_a_reject_that_names_the_byte(language: str) -> None:
    write_wav("recordings/allison/cut.wav")
    prompts()
    with Path("recordings/transcripts.csv").open("ab") as stream:
        stream.write(f"allison/cut.wav,allison,{language},".encode() + "你好 Größe".encode()[:-1] + b"\x80\xff\n")
        stream.write(b"allison/gone\xff.wav,allison,EN,Hello.\n")
    run(languages=("ZH", "JP", "EN"))
    assert reasons(Path("out")) == {"allison/cut": "undecodable_text", "allison/gone\\xff.wav": "missing_audio"}
    assert "byte 0x80 is not UTF-8" in str(pq.read_table("out/rejects.parquet").column("detail").to_pylist())


def test_too_many_rejects_stop_the_run_and_leave_no_output() -> None:
    prompts(extra={f"allison/lost{index}.g722": "Gone." for index in range(12)})
    message = problem(max_reject_share=0.25)
    assert (
        "corpus: 12 of 24 utterances rejected (missing_audio 12)" in message
        and "corpus.max_reject_share = 0.25" in message
    )


def test_a_second_line_for_a_recording_is_a_duplicate() -> None:
    prompts()
    with Path("recordings/transcripts.csv").open("a", encoding="utf-8") as stream:
        stream.write("allison/conf-full.g722,allison,EN,Something else.\n")
    run()
    assert reasons(Path("out")) == {"allison/conf-full": "duplicate_utterance"}
    assert "That conference is full." in pq.read_table("out/corpus.parquet").column("text").to_pylist()


def test_the_limit_chooses_the_same_utterances_everywhere() -> None:
    prompts()
    run(max_utterances=5)
    first = utterance_ids(Path("out/corpus.parquet"))
    assert len(first) == 5
    assert sorted(reasons(Path("out")).values()) == ["over_limit"] * 7
    candidates = [
        Candidate(name, TranscriptLine(name, ""), name) for name in sorted(f"allison/{prompt}" for prompt in PROMPTS)
    ]
    for order in (candidates, candidates[::-1]):
        assert [candidate.utterance_id for candidate in limit_utterances(order, 5)[0]] == first
    smaller = {candidate.utterance_id for candidate in limit_utterances(candidates, 3)[0]}
    assert smaller < set(first)


def test_speakers_come_from_the_transcript_or_the_folder() -> None:
    for path in ("recordings/anna/1.wav", "recordings/bob/deep/2.wav", "recordings/3.wav"):
        write_wav(path)
    Path("t.csv").write_text("audio,text\nanna/1.wav,One.\nbob/deep/2.wav,Two.\n3.wav,Three.\n", encoding="utf-8")
    run(transcripts="t.csv")
    table = pq.read_table("out/corpus.parquet")
    speakers = dict(zip(table.column("utterance_id").to_pylist(), table.column("speaker").to_pylist(), strict=True))
    assert speakers == {"anna/1": "anna", "bob/deep/2": "bob", "3": "speaker"}


def test_any_rate_depth_and_number_of_channels_is_described() -> None:
    write_wav("recordings/anna/a.wav", rate_hz=44100, channels=2)
    write_wav("recordings/anna/b.flac", rate_hz=8000)
    write_wav("recordings/anna/c.mp3", rate_hz=24000)
    Path("t.list").write_text("a.wav|anna|EN|One.\nb.flac|anna|en|Two.\nc.mp3|anna|EN|Three.\n", encoding="utf-8")
    run(transcripts="t.list")
    table = pq.read_table("out/corpus.parquet")
    assert table.column("sample_rate_hz").to_pylist() == [44100, 8000, 24000]
    assert table.column("n_channels").to_pylist() == [2, 1, 1]
    assert table.column("container").to_pylist() == ["wav", "flac", "mp3"]


@pytest.mark.parametrize(
    ("audio", "speaker"),
    [
        ("anna/1.wav", ""),
        ("anna/1", ""),
        ("1.wav", "anna"),
        ("1", "anna"),
        ("./anna/1.wav", ""),
        ("raw/data/anna/1.wav", ""),
        ("anna\\1.wav", ""),
        ("anna/1.flac", ""),
        ("/abs/anna/1.wav", ""),
    ],
)
def test_a_line_may_name_its_recording_in_many_ways(audio: str, speaker: str) -> None:
    candidates, rejects = match([TranscriptLine(audio, "Hi", speaker)], ["anna/1.wav"])
    assert [candidate.audio_path for candidate in candidates] == ["anna/1.wav"] and rejects == []


def test_a_name_that_only_looks_alike_is_no_match() -> None:
    candidates, rejects = match([TranscriptLine("anna/1.2", "Hi"), TranscriptLine("", "Hi")], ["anna/1.wav"])
    assert candidates == []
    assert [reject["reason"] for reject in rejects] == ["missing_audio", "missing_audio", "missing_transcript"]


def test_linked_folders_are_followed_once() -> None:
    write_wav("elsewhere/1.wav")
    Path("recordings").mkdir()
    os.symlink(Path("elsewhere").absolute(), "recordings/anna")
    os.symlink(Path("recordings").absolute(), "elsewhere/loop")
    assert find_recordings(Path("recordings")) == ["anna/1.wav"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_seconds": 5.0, "max_seconds": 1.0}, "min_seconds 5.0 must be less than max_seconds 1.0"),
        ({"default_language": "XX"}, "default_language 'XX' is not among languages"),
        ({"non_speech_pattern": "["}, "non_speech_pattern is not a regular expression"),
        (
            {"transcript_format": "excel"},
            "transcript_format should be 'auto', 'table', 'bert_vits2' or 'ljspeech', found 'excel'",
        ),
    ],
)
def test_values_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        from_mapping(CorpusParams, {**CORPUS_VALUES, "languages": ["EN"], **changes}, where="corpus")
    assert message in str(caught.value)
