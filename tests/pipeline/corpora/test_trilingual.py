"""The trilingual corpus: sentences that can be read, clips named by what they say, nothing made twice."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import jiwer
import pyarrow.parquet as pq
import pytest

from model.text.registry import get_front_end
from pipeline.corpora import asterisk, gcin, trilingual
from pipeline.corpora.trilingual import VOICES, CorpusClip, Sentence, read_sentences, synthetic_clip
from stages.common.errors import StageError
from stages.corpus import stage as corpus
from stages.corpus.params import CorpusParams
from tests.small_corpus import CORPUS_VALUES, ROOT

SENTENCES = read_sentences(trilingual.SENTENCES)
HAN = re.compile("[\u4e00-\u9fff]")


def test_there_are_sentences_enough_in_every_language() -> None:
    counts = {language: sum(sentence.language == language for sentence in SENTENCES) for language in trilingual.FILES}
    assert all(count >= 40 for count in counts.values())
    assert all(sentence.text[-1] in ".?!。？！" and sentence.text == sentence.text.strip() for sentence in SENTENCES)


def test_a_sentence_that_is_there_twice_is_named(tmp_path: Path) -> None:
    for name in trilingual.FILES.values():
        (tmp_path / name).write_text("text\treading\n" if name.endswith(".tsv") else "Twice.\n" * 2, encoding="utf-8")
    with pytest.raises(StageError, match=r"repeated sentence 'Twice\.'; remove one"):
        read_sentences(tmp_path)


@pytest.mark.parametrize("language", trilingual.FILES)
def test_the_front_end_reads_every_sentence(language: str) -> None:
    front_end = get_front_end(language)
    for sentence in (sentence for sentence in SENTENCES if sentence.language == language):
        sequence = front_end.to_phones(front_end.normalise(sentence.text))
        assert set(sequence.languages or [language]) == {language}, sentence.text
        assert len(sequence.phones) == sum(sequence.word2ph) >= 15, sentence.text


def test_every_mandarin_character_has_a_syllable_and_every_pause_a_mark() -> None:
    for text, reading in ((item.text, item.reading) for item in SENTENCES if item.language == "ZH"):
        assert re.fullmatch(r"(([a-z]+[1-5])+[,.?!]? ?)+", reading), text
        assert len(HAN.findall(text)) == len(re.findall("[1-5]", reading)), text
        assert len(re.findall("[，、。？！]", text)) == len(re.findall("[,.?!]", reading)), text


def tones_of(sentence: Sentence) -> str:
    """The tones that the Mandarin front end gives a sentence, one digit a character."""
    front_end = get_front_end("ZH")
    sequence = front_end.to_phones(front_end.normalise(sentence.text))
    starts = [sum(sequence.word2ph[:index]) for index in range(len(sequence.words))]
    return "".join(
        str(sequence.tones[start]) for word, start in zip(sequence.words, starts, strict=True) if HAN.fullmatch(word)
    )


def test_the_front_end_reads_mandarin_in_the_tones_that_are_spoken() -> None:
    """Where the two differ, a voice would learn from a wrong label."""
    pairs = [(" ".join(re.findall("[1-5]", s.reading)), " ".join(tones_of(s))) for s in SENTENCES if s.language == "ZH"]
    assert jiwer.wer([said for said, _ in pairs], [read for _, read in pairs]) <= 0.05


def test_a_clip_is_named_by_what_is_said_and_by_whom() -> None:
    clips = [synthetic_clip(sentence) for sentence in SENTENCES]
    assert len({clip.audio for clip in clips}) == len(clips)
    assert clips == [synthetic_clip(sentence) for sentence in SENTENCES]
    first = next(sentence for sentence in SENTENCES if sentence.language == "ZH")
    names = {
        synthetic_clip(changed).audio
        for changed in (first, replace(first, text="好。"), replace(first, reading="hao3."))
    }
    assert len(names) == 3
    assert all(
        clip.synthetic and clip.speaker in VOICES and clip.audio.startswith(f"{clip.speaker}/") for clip in clips
    )


@pytest.mark.parametrize("language", ["ZH", "JP"])
def test_both_kokoro_voices_speak_much_of_each_language(language: str) -> None:
    speakers = [synthetic_clip(sentence).speaker for sentence in SENTENCES if sentence.language == language]
    assert all(speakers.count(speaker) >= 0.35 * len(speakers) for speaker in ("kokoro-alpha", "kokoro-kumo"))


def prompts(folder: Path, count: int, seconds: float = 3.0) -> list[CorpusClip]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        path = folder / f"{number}.g722"
        path.write_bytes(b"\x40" * int(seconds * trilingual.G722_BYTES_PER_SECOND))
        made.append(CorpusClip(f"allison/{path.name}", "allison", "EN", f"Prompt {number}.", False, path))
    return made


def test_prompts_fill_the_minutes_whatever_their_order(tmp_path: Path) -> None:
    found = prompts(tmp_path, 40)
    chosen = trilingual.choose_prompts(found, minutes=1.0)
    assert len(chosen) == 20 and chosen == trilingual.choose_prompts(found[::-1], minutes=1.0)


def test_short_prompts_and_remarks_are_not_chosen(tmp_path: Path) -> None:
    short = prompts(tmp_path / "short", 3, seconds=1.0)
    remarks = [replace(clip, text="[two second tone]") for clip in prompts(tmp_path / "tones", 3)]
    assert trilingual.choose_prompts([*short, *remarks], minutes=1.0) == []


def write_wave(path: Path, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(16000)
        stream.writeframes(b"\x00\x10" * int(16000 * seconds))


def fetched(folder: Path) -> None:
    """Write two fetched corpora of one recording each, as `asterisk` and `gcin` leave them."""
    prompts(folder / "asterisk-en" / "allison", 1)
    write_wave(folder / "gcin-voice" / "gcin-3" / "list-1.wav")
    rows = {"asterisk-en": "allison/0.g722,allison,EN,Hello.", "gcin-voice": "gcin-3/list-1.wav,gcin-3,ZH,水，火。"}
    for name, row in rows.items():
        (folder / name / "COPYRIGHT").write_text(f"of {name}\n", encoding="utf-8")
        (folder / name / "transcripts.csv").write_text(f"audio,speaker,language,text\n{row}\n", encoding="utf-8")
    (folder / "gcin-voice" / "recipe.txt").write_text(gcin.recipe(), encoding="utf-8")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A corpus of one clip of each source and language, whose spoken clips are there already."""
    fetched(tmp_path)
    out = tmp_path / "trilingual"
    for language in trilingual.FILES:
        write_wave(out / next(synthetic_clip(s) for s in SENTENCES if s.language == language).audio)
    write_wave(out / "kokoro-kumo" / "jp-of-an-earlier-text.wav")
    trilingual.make(out, tmp_path / "no-voices-needed", 1)
    return out


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_manifest_says_who_speaks_what_and_what_is_synthetic(made: Path) -> None:
    rows = rows_of(made)
    assert sorted((row["language"], row["synthetic"]) for row in rows) == [
        ("EN", "false"),
        ("EN", "true"),
        ("JP", "true"),
        ("ZH", "false"),
        ("ZH", "true"),
    ]
    assert {row["speaker"] for row in rows if row["synthetic"] == "false"} == {"allison", "gcin-3"}
    assert all((made / row["audio"]).is_file() for row in rows)


def test_licences_lie_beside_the_recordings(made: Path) -> None:
    text = (made / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert all(f"`{speaker}/`" in text for speaker in (asterisk.SPEAKER, *gcin.SPEAKERS, *VOICES))
    assert (made / "COPYRIGHT-asterisk").read_text(encoding="utf-8") == "of asterisk-en\n"
    assert (made / "COPYRIGHT-gcin-voice").is_file()


def test_clips_of_earlier_texts_are_removed(made: Path) -> None:
    found = {path.relative_to(made).as_posix() for path in made.rglob("*.*") if path.suffix in (".wav", ".g722")}
    assert found == {row["audio"] for row in rows_of(made)}


def test_a_complete_corpus_is_left_alone(made: Path) -> None:
    assert trilingual.is_complete(made, 1)
    assert not trilingual.is_complete(made, 2), "another limit is another corpus"
    (made / rows_of(made)[0]["audio"]).unlink()
    assert not trilingual.is_complete(made, 1)


def test_a_changed_sentence_makes_the_corpus_incomplete(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tmp_path / "sentences"
    texts.mkdir()
    for name in trilingual.FILES.values():
        (texts / name).write_text((trilingual.SENTENCES / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(trilingual, "SENTENCES", texts)
    assert trilingual.is_complete(made, 1)
    (texts / "english.txt").write_text("One more sentence.\n", encoding="utf-8")
    assert not trilingual.is_complete(made, 1)


def test_the_corpus_stage_carries_what_is_synthetic(made: Path, tmp_path: Path) -> None:
    values = {
        **CORPUS_VALUES,
        "recordings": str(made),
        "transcripts": str(made / "transcripts.csv"),
        "languages": ("EN", "ZH", "JP"),
        "default_language": "EN",
        "min_seconds": 0.5,
    }
    corpus.main(tmp_path / "out", CorpusParams(**values))
    table = pq.read_table(tmp_path / "out" / "corpus.parquet").to_pylist()
    assert {row["audio_path"]: row["synthetic"] for row in table} == {
        row["audio"]: row["synthetic"] == "true" for row in rows_of(made)
    }


def test_without_apt_there_is_one_line_and_no_corpus(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pipeline.corpora.trilingual",
        "--out",
        str(tmp_path / "recordings" / "trilingual"),
    ]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: apt-get is not on this machine.* set corpus\.recordings .*\n",
        done.stderr.splitlines(keepends=True)[-1],
    )
    assert "Traceback" not in done.stderr and not (tmp_path / "recordings" / "trilingual" / "transcripts.csv").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_small_piece_is_really_fetched_and_spoken(tmp_path: Path) -> None:
    out = tmp_path / "recordings" / "trilingual"
    command = [
        sys.executable,
        "-m",
        "pipeline.corpora.trilingual",
        "--out",
        str(out),
        "--voices",
        str(tmp_path / "voices"),
        "--limit",
        "1",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    rows = rows_of(out)
    assert sorted((row["language"], row["synthetic"]) for row in rows) == [
        ("EN", "false"),
        ("EN", "true"),
        ("JP", "true"),
        ("ZH", "false"),
        ("ZH", "true"),
    ]
    spoken = {row["audio"]: (out / row["audio"]).stat().st_mtime_ns for row in rows if row["synthetic"] == "true"}
    for audio in spoken:
        with wave.open(str(out / audio)) as stream:
            assert 2 < stream.getnframes() / stream.getframerate() < 10
    lost = next(iter(spoken))
    (out / lost).unlink()
    subprocess.run(command, cwd=ROOT, check=True)
    again = {audio: (out / audio).stat().st_mtime_ns for audio in spoken}
    assert [audio for audio in spoken if again[audio] != spoken[audio]] == [lost]
