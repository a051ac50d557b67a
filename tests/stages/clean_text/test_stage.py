"""Text cleaning stage: every transcript becomes normalised text and phones that belong to its words."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.text.symbols import SYMBOLS
from stages.clean_text import stage as clean_text
from stages.clean_text.stage import CleanTextParams, Transcript, process
from stages.common import manifests
from stages.common.errors import ManifestError, PipelineError, RowRejected
from stages.reporting.terminal import columns, display_width
from tests.conftest import CodeCopy
from tests.small_corpus import ROOT, SmallCorpus, folder_bytes, reasons, utterance_ids

pytestmark = pytest.mark.usefixtures("workspace")
LANGUAGES = ("ZH", "JP", "EN")
HEADER = "language\tword\treading\n"


def write_corpus(texts: dict[str, str], folder: str = "corpus", language: str = "EN") -> Path:
    """Write a corpus manifest of utterance → text."""
    known = {"language": language, "audio_path": "x.wav", "container": "wav", "synthetic": False}
    empty = {
        field.name: known.get(field.name, "" if pa.types.is_string(field.type) else 0) for field in manifests.CORPUS
    }
    Path(folder).mkdir()
    table = manifests.table_from_rows(
        [{**empty, "utterance_id": name, "text": text} for name, text in texts.items()], manifests.CORPUS
    )
    manifests.write_manifest(Path(folder) / "corpus.parquet", table)
    return Path(folder)


def write_lexicon(*lines: str, path: str = "mine.tsv") -> Path:
    Path(path).write_text(HEADER + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Path(path)


def run(
    corpus: Path, out: str = "out", share: float = 0.5, lexicon: Path = ROOT / "lexicon.tsv", unreadable: Any = "reject"
) -> list[dict[str, Any]]:
    clean_text.main(corpus, lexicon, Path(out), CleanTextParams(unreadable, share))
    rows: list[dict[str, Any]] = manifests.read_manifest(
        Path(out) / "clean_text.parquet", manifests.CLEAN_TEXT
    ).to_pylist()
    return rows


def test_numbers_and_abbreviations_become_words() -> None:
    rows = run(write_corpus({"a": "Dr. Smith has 21 cats."}))
    assert rows[0]["normalised"].lower().replace("-", " ") == "doctor smith has twenty one cats."


def test_phones_belong_to_words_and_words_to_the_text(small_corpus: SmallCorpus) -> None:
    rows = manifests.read_manifest(small_corpus.clean_text / "clean_text.parquet", manifests.CLEAN_TEXT).to_pylist()
    assert len(rows) == 12
    for row in rows:
        assert sum(row["word2ph"]) == len(row["phones"]) == len(row["tones"])
        assert len(row["words"]) == len(row["word2ph"]) == len(row["word_starts"]) == len(row["word_ends"])
        assert min(row["word2ph"]) >= 1
        assert all(
            0 <= start <= end <= len(row["normalised"])
            for start, end in zip(row["word_starts"], row["word_ends"], strict=True)
        )


def test_a_text_that_cannot_be_spoken_is_a_reject_with_the_reason() -> None:
    rows = run(write_corpus({"a": "Hello.", "b": "…", "c": "你好"}), share=0.9)
    assert [row["utterance_id"] for row in rows] == ["a"]
    rejected = reasons(Path("out"))
    assert sorted(rejected) == ["b", "c"] and all(rejected.values())


def test_a_language_without_a_front_end_is_a_reject_that_lists_the_others() -> None:
    corpus = write_corpus({"a": "Hello."}, language="XX")
    with pytest.raises(PipelineError) as caught:
        run(corpus)
    assert "1 of 1 utterances rejected (unknown_language 1)" in str(caught.value)
    assert "EN" in str(caught.value) and "\n" not in str(caught.value)
    assert not Path("out").exists()


def test_workers_history_and_order_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {f"u{index}": f"Sentence number {index} is here." for index in range(20)}
    run(write_corpus(dict(list(texts.items())[:9]), "some"), "some_out")
    run(write_corpus(texts, "all"), "all_out")
    monkeypatch.setenv("VOICE_WORKERS", "2")
    monkeypatch.setenv("VOICE_ROW_STORE", "fresh_rows")
    run(write_corpus(dict(reversed(texts.items())), "reversed"), "scratch_out")
    assert folder_bytes(Path("all_out")) == folder_bytes(Path("scratch_out"))


def test_every_corpus_utterance_is_kept_or_rejected(small_corpus: SmallCorpus) -> None:
    kept = utterance_ids(small_corpus.clean_text / "clean_text.parquet")
    assert sorted([*kept, *reasons(small_corpus.clean_text)]) == utterance_ids(small_corpus.corpus / "corpus.parquet")


def test_without_a_corpus_the_message_says_what_makes_it() -> None:
    with pytest.raises(ManifestError, match=r"corpus\.parquet: no such manifest; run `dvc repro`"):
        run(Path("nowhere"))
    assert not Path("out").exists()


def check(facts: dict[str, Any]) -> None:
    """What must hold for every row of the manifest."""
    assert sum(facts["word2ph"]) == len(facts["phones"]) == len(facts["tones"])
    assert (
        len(facts["words"])
        == len(facts["word2ph"])
        == len(facts["word_starts"])
        == len(facts["word_ends"])
        == len(facts["word_languages"])
    )
    assert min(facts["word2ph"]) >= 1 and set(facts["word_languages"]) <= set(LANGUAGES)
    assert set(facts["phones"]) <= set(SYMBOLS)
    end = 0
    for word, start, next_end in zip(facts["words"], facts["word_starts"], facts["word_ends"], strict=True):
        assert end <= start < next_end <= len(facts["normalised"]), (word, start, next_end)
        end = next_end


UNREADABLE = {"a": "Hello there.", "b": "Snow ☃ falls.", "c": "☃"}


def test_an_unreadable_character_rejects_the_text_and_is_named() -> None:
    rows = run(write_corpus(UNREADABLE), share=0.9)
    assert [row["utterance_id"] for row in rows] == ["a"]
    details = pq.read_table("out/rejects.parquet").to_pylist()
    assert [row["reason"] for row in details] == ["unreadable_character"] * 2
    assert all("☃" in row["detail"] and "U+2603" in row["detail"] for row in details)


def test_an_unreadable_character_is_dropped_with_a_note_on_request() -> None:
    rows = run(write_corpus(UNREADABLE), unreadable="drop")
    assert {row["utterance_id"]: row["note"] for row in rows} == {"a": "", "b": "dropped '☃' (U+2603)"}
    assert "☃" not in rows[1]["normalised"]
    assert reasons(Path("out")) == {"c": "no_speech"}


def test_the_two_ways_with_unreadable_characters_do_not_share_rows() -> None:
    corpus = write_corpus(UNREADABLE)
    dropped = run(corpus, "first", unreadable="drop")
    assert len(run(corpus, "second", share=0.9)) == 1 and run(corpus, "third", unreadable="drop") == dropped


def test_all_unreadable_characters_of_a_text_are_named() -> None:
    with pytest.raises(RowRejected, match=r"☃.*also '☂' \(U\+2602"):
        process(Transcript("EN", "Snow ☃ and rain ☂."))


def test_the_users_lexicon_comes_before_every_front_end() -> None:
    corpus = write_corpus({"a": "A tomato.", "b": "A cat."})
    plain = run(corpus, "plain")
    own = run(corpus, "own", lexicon=write_lexicon("EN\ttomato\tT AH0 M AA1 T OW0"))
    assert own[0]["phones"] != plain[0]["phones"] and " ".join(own[0]["phones"]) == "ah t ah m aa t ow ."
    assert own[1] == plain[1]


def computed(caplog: pytest.LogCaptureFixture) -> int:
    """Return how many rows the runs since the last call computed."""
    found = [re.search(r"(\d+) rows to compute", record.getMessage()) for record in caplog.records]
    caplog.clear()
    return sum(int(match.group(1)) for match in found if match)


def test_a_new_entry_computes_only_the_rows_it_concerns(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    corpus = write_corpus({"a": "A tomato.", "b": "Two tomatoes and 20 dogs.", "c": "A cat.", "d": "The sun."})
    entry = "EN\ttomato\tT AH0 M AA1 T OW0"
    run(corpus, "plain")
    assert computed(caplog) == 4
    run(corpus, "one", lexicon=write_lexicon(entry))
    assert computed(caplog) == 2  # a and b
    run(corpus, "two", lexicon=write_lexicon(entry, "EN\tcat\tK AA1 T"))
    assert computed(caplog) == 1  # c
    run(
        corpus,
        "none",
        lexicon=write_lexicon(entry, "EN\tcat\tK AA1 T", "EN\tzebra\tZ IY1", "EN\ttwenty\tT W EH1 N IY0"),
    )
    assert computed(caplog) == 1  # b, where 20 is said as twenty
    run(corpus, "gone")
    assert computed(caplog) == 0 and folder_bytes(Path("gone")) == folder_bytes(Path("plain"))


def test_a_comment_in_the_code_computes_no_row_and_a_changed_expression_all(
    code_copy: CodeCopy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    corpus = write_corpus({"a": "A tomato.", "b": "Two tomatoes and 20 dogs."})
    run(corpus, "first")
    assert computed(caplog) == 2
    code_copy.edit("model/text/english/front_end.py", '"""English front end', '"""Text to phones')
    code_copy.edit("stages/clean_text/stage.py", "import argparse\n", "import argparse  # a remark\n\n")
    run(corpus, "second")
    assert computed(caplog) == 0
    code_copy.edit("model/text/english/front_end.py", '"twenty|thirty', '"ten|twenty|thirty')
    run(corpus, "third")
    assert computed(caplog) == 2


def test_with_a_lexicon_too_history_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_corpus({"a": "A tomato and a cat.", "b": "Two tomatoes.", "c": "The sun.", "d": "☃"})
    entries = ["EN\ttomato\tT AH0 M AA1 T OW0", "EN\tcat\tK AA1 T"]
    run(corpus, "first", lexicon=write_lexicon(entries[0], path="one.tsv"))
    run(corpus, "grown", lexicon=write_lexicon(*entries))
    monkeypatch.setenv("VOICE_WORKERS", "2")
    monkeypatch.setenv("VOICE_ROW_STORE", "fresh_rows")
    run(corpus, "scratch", lexicon=write_lexicon(*entries, path="both.tsv"))
    assert folder_bytes(Path("grown")) == folder_bytes(Path("scratch"))


def test_the_lexicon_travels_with_the_manifest() -> None:
    run(write_corpus({"a": "A cat."}), lexicon=write_lexicon("EN\ttomato\tT OW1"))
    assert manifests.read_metadata(Path("out/clean_text.parquet"))["lexicon"] == {"EN": {"tomato": "T OW1"}}


def test_a_lexicon_with_a_mistake_stops_the_stage_with_its_line() -> None:
    with pytest.raises(PipelineError, match=r"clean_text: mine\.tsv:2: .*'tomato'"):
        run(write_corpus({"a": "A cat."}), lexicon=write_lexicon("EN\ttomato\tX Y Z"))
    assert not Path("out").exists()


def explain(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stages.clean_text", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")


def test_a_reading_is_explained_in_columns() -> None:
    done = explain("--explain", "Dr. Lee.", "--language", "EN")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == (
        "Doctor Lee.\n\n"
        "word    language  phones       tones      word2ph\n"
        "Doctor  EN        d aa k t er  0 2 0 0 1  5\n"
        "Lee     EN        l iy         0 2        2\n"
        ".       EN        .            0          1\n"
    )


@pytest.mark.parametrize(("language", "text"), [("ZH", "我用GPT。"), ("JP", "東京でGPT。"), ("EN", "I use GPT.")])
def test_every_language_is_explained_with_its_embedded_words(language: str, text: str) -> None:
    lines = clean_text.explain(text, language, None).splitlines()
    gpt = next(line for line in lines[2:] if line.startswith("GPT"))
    assert "EN" in gpt.split() and "jh iy p iy t iy" in gpt
    starts = {display_width(line[: line.index(cell)]) for line, cell in [(lines[2], "language"), (gpt, "EN ")]}
    assert len(starts) == 1


def test_the_explanation_shows_what_the_lexicon_changes() -> None:
    write_lexicon("EN\ttomato\tT AH0 M AA1 T OW0")
    assert "t ah m aa t ow" in clean_text.explain("A tomato.", "EN", Path("mine.tsv"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("☃", "--language", "EN"), "error: unreadable_character: '☃' (U+2603"),
        (("", "--language", "EN"), "error: no_speech: "),
        (("Hi", "--language", "XX"), "error: unknown_language: no front end for 'XX'; available: "),
        (("Hi", "--language", "EN", "--lexicon", "none.tsv"), "error: clean_text: none.tsv: No such file"),
    ],
)
def test_what_cannot_be_explained_ends_with_one_line(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        clean_text.explain_main(arguments)
    assert str(ended.value).startswith(message) and "\n" not in str(ended.value)


def test_the_help_and_a_missing_language_name_the_flags() -> None:
    assert "--explain" in explain("--help").stdout
    done = explain("--explain", "Hi")
    assert done.returncode == 2 and "--language" in done.stderr


def test_columns_are_aligned_for_wide_characters() -> None:
    lines = columns([("東京", "a"), ("か゚", "b"), ("x", "c")]).splitlines()
    assert [display_width(line[:-1]) for line in lines] == [6, 6, 6]


BAD_TEXTS = {
    "empty": "",
    "spaces": " \t\u3000",
    "marks": "…！？。、.,—“”()",
    "one_mark": "-",
    "digits": "9" * 500,
    "emoji": "😀👍🏽👨\u200d👩\u200d👧",
    "controls": "\x00\x07\x1b[31m\x7f\u200b\ufeff",
    "private": "\ue000",
    "surrogate": "\udc80",
    "long": "a b 你 か 1 " * 1000,
    "long_word": "ha" * 2000,
    "full_width": "ＡＢＣ　１２３　！？％",
    "half_width": "ｱｲｳｴｵ ｶﾞｷﾞ",
    "mixed": "I love 北京 and すし very much. Привет! שלום مرحبا नमस्ते",
    "right_to_left": "\u202ehello\u202c",
    "combining": "e\u0301a\u0308 か\u3099",
    "ligatures": "ﬁ ﬂ ㍿ ㎏ ① ½ Ⅳ",
    "tags": "<script>[笑]</script>{x}",
    "chinese": "今天天气很好，我们去公园。",
    "japanese": "今日はいい天気ですね。",
    "english": "It is a fine day.",
    "shared_characters": "今日天気公園。",
    "symbols": "1+1=2, 50% & #1 @ $5 ~ ^ \\ / | `",
    "telephone": "010-1234-5678",
    "url": "https://example.com/a?b=c&d=1",
    "newlines": "one\ntwo\r\n三\u2028四",
}
WITHOUT_SPEECH = ("empty", "spaces", "marks", "one_mark")


@pytest.mark.parametrize("drop", [False, True], ids=["reject", "drop"])
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_input_is_read_or_rejected_with_a_reason(name: str, language: str, drop: bool) -> None:
    try:
        facts, _ = process(Transcript(language, BAD_TEXTS[name], drop))
    except RowRejected as error:
        assert error.detail and "\n" not in error.detail and error.detail.encode("utf-8")
        assert error.reason in ("no_speech", "too_long", "unreadable_character")
        assert error.reason == "no_speech" or name not in WITHOUT_SPEECH
        assert error.reason != "unreadable_character" or not drop
    else:
        assert name not in WITHOUT_SPEECH and name != "long"
        check(facts)
        assert drop or not facts["note"]


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("EN", "chinese"),
        ("EN", "japanese"),
        ("JP", "chinese"),
        ("EN", "emoji"),
        ("ZH", "emoji"),
        ("JP", "emoji"),
        ("ZH", "private"),
        ("JP", "surrogate"),
    ],
)
def test_what_nobody_can_read_in_a_language_is_named(language: str, name: str) -> None:
    with pytest.raises(RowRejected) as caught:
        process(Transcript(language, BAD_TEXTS[name]))
    assert caught.value.reason == "unreadable_character" and "U+" in caught.value.detail


@pytest.mark.parametrize(
    ("language", "name", "languages"),
    [
        ("ZH", "english", {"EN"}),
        ("JP", "english", {"EN"}),
        ("ZH", "japanese", {"ZH", "JP"}),
        ("JP", "shared_characters", {"JP"}),
        ("ZH", "full_width", {"ZH", "EN"}),
    ],
)
def test_a_text_under_another_languages_tag_is_read_as_far_as_its_characters_go(
    language: str, name: str, languages: set[str]
) -> None:
    facts, _ = process(Transcript(language, BAD_TEXTS[name]))
    marks = {language} if any(not word[0].isalnum() for word in facts["words"]) else set()
    assert languages <= set(facts["word_languages"]) <= languages | marks
    check(facts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_text_that_is_too_long_says_how_long_it_may_be(language: str) -> None:
    with pytest.raises(RowRejected, match=r"too_long: 10[,.]?000 characters"):
        process(Transcript(language, "a" * 10_000))


READABLE = (
    "一二三四五人大小天地日本语中国的不了儿〇々あいうえおかきくけこがぱっゃんアイウエオカキクケコー"
    "abcxyzABC 0123456789.,!?…-'%$:/（）「」，。、！？☃😀é½①"
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=READABLE, max_size=40),
    st.text(alphabet=st.characters(exclude_categories=()), max_size=12),
)


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS, drop=st.booleans())
def test_any_text_is_read_whole_or_rejected(language: str, text: str, drop: bool) -> None:
    try:
        facts, _ = process(Transcript(language, text, drop))
    except RowRejected as error:
        assert error.reason in ("no_speech", "too_long", "unreadable_character")
        assert error.detail.encode("utf-8")
    else:
        check(facts)
        pa.Table.from_pylist([{"utterance_id": "a", **facts}], schema=manifests.CLEAN_TEXT)
        assert not [one for one in facts["normalised"] if unicodedata.category(one) in ("Cc", "Cs", "Co", "Cn")]


MIXED = {"ZH": "他说GPT很好，3.5元。去东京タワー！", "JP": "GPTは3.5倍、速い。", "EN": "Dr. Lee's GPT costs $3.50."}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_normalised_text_reads_the_same_again(language: str) -> None:
    """Evaluation speaks the normalised text, with the phones that were trained."""
    items = json.loads((ROOT / "tests" / "golden" / "text" / f"{language.lower()}.json").read_text(encoding="utf-8"))[
        "items"
    ]
    for text in [MIXED[language], *(item["text"] for item in items)]:
        facts, _ = process(Transcript(language, text))
        again, _ = process(Transcript(language, facts["normalised"]))
        assert (again["phones"], again["normalised"]) == (facts["phones"], facts["normalised"]), text
