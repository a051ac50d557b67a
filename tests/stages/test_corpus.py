"""Corpus stage: recordings and transcripts are matched, described and never written to; what is unusable is a reject."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import soundfile

from stages import corpus
from stages.common import manifests
from stages.common.errors import PipelineError
from stages.common.params import from_mapping
from stages.common.transcripts import TranscriptLine
from stages.corpus import Candidate, CorpusParams
from tests.small_corpus import CORPUS_VALUES, PROMPTS, copy_prompts, folder_bytes, reasons, utterance_ids, write_transcripts

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
    assert (row["sample_rate_hz"], row["n_channels"], row["n_samples"], row["container"]) == (16000, 1, 2 * size, "g722")
    assert row["synthetic"] is False
    assert manifests.metadata_of(table) == {"recordings": "recordings", "source_note": CORPUS_VALUES["source_note"]}
    assert reasons(Path("out")) == {}


def test_sources_keep_their_bytes_and_times() -> None:
    prompts()
    files = sorted(Path("recordings").rglob("*"))
    for path in files:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = [(path, path.stat().st_mtime_ns, path.stat().st_mode) for path in files], folder_bytes(Path("recordings"))
    run()
    assert ([(path, path.stat().st_mtime_ns, path.stat().st_mode) for path in sorted(Path("recordings").rglob("*"))],
            folder_bytes(Path("recordings"))) == before  # fmt: skip


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
    transcripts.write_text(transcripts.read_text(encoding="utf-8").replace("foreign.wav,allison,EN", "foreign.wav,allison,XX"), encoding="utf-8")
    run()
    assert reasons(Path("out")) == {
        "allison/short": "too_short", "allison/long": "too_long", "allison/silent": "silent_audio", "allison/empty": "empty_audio",
        "allison/text": "damaged_audio", "allison/tone": "non_speech", "allison/wordless": "empty_text", "allison/foreign": "unknown_language",
    }  # fmt: skip
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
    assert "corpus: 12 of 24 utterances rejected (missing_audio 12)" in message and "corpus.max_reject_share = 0.25" in message


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
    candidates = [Candidate(name, TranscriptLine(name, ""), name) for name in sorted(f"allison/{prompt}" for prompt in PROMPTS)]
    for order in (candidates, candidates[::-1]):
        assert [candidate.utterance_id for candidate in corpus.select(order, 5)[0]] == first
    smaller = {candidate.utterance_id for candidate in corpus.select(candidates, 3)[0]}
    assert smaller < set(first)


def test_the_number_of_workers_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts(extra={"allison/lost.g722": "Gone."})
    run()
    single = folder_bytes(Path("out"))
    monkeypatch.setenv("VOICE_WORKERS", "2")
    run()
    assert folder_bytes(Path("out")) == single


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
    [("anna/1.wav", ""), ("anna/1", ""), ("1.wav", "anna"), ("1", "anna"), ("./anna/1.wav", ""), ("raw/data/anna/1.wav", ""),
     ("anna\\1.wav", ""), ("anna/1.flac", ""), ("/abs/anna/1.wav", "")],
)  # fmt: skip
def test_a_line_may_name_its_recording_in_many_ways(audio: str, speaker: str) -> None:
    candidates, rejects = corpus.match([TranscriptLine(audio, "Hi", speaker)], ["anna/1.wav"])
    assert [candidate.audio_path for candidate in candidates] == ["anna/1.wav"] and rejects == []


def test_a_name_that_only_looks_alike_is_no_match() -> None:
    candidates, rejects = corpus.match([TranscriptLine("anna/1.2", "Hi"), TranscriptLine("", "Hi")], ["anna/1.wav"])
    assert candidates == []
    assert [reject["reason"] for reject in rejects] == ["missing_audio", "missing_audio", "missing_transcript"]


def test_linked_folders_are_followed_once() -> None:
    write_wav("elsewhere/1.wav")
    Path("recordings").mkdir()
    os.symlink(Path("elsewhere").absolute(), "recordings/anna")
    os.symlink(Path("recordings").absolute(), "elsewhere/loop")
    assert corpus.find_recordings(Path("recordings")) == ["anna/1.wav"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_seconds": 5.0, "max_seconds": 1.0}, "min_seconds 5.0 must be less than max_seconds 1.0"),
        ({"default_language": "XX"}, "default_language 'XX' is not among languages"),
        ({"non_speech_pattern": "["}, "non_speech_pattern is not a regular expression"),
        ({"transcript_format": "excel"}, "transcript_format: 'excel' is not one of auto, table, bert_vits2, ljspeech"),
    ],
)
def test_values_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        from_mapping(CorpusParams, {**CORPUS_VALUES, "languages": ["EN"], **changes}, where="corpus")
    assert message in str(caught.value)
