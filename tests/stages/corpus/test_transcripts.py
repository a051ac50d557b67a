"""Transcripts: every format users have is read into one shape, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.common.errors import StageError
from stages.corpus.transcripts import TranscriptLine, read_transcripts, undecodable_bytes

TWO = [
    TranscriptLine("anna/1.wav", "Hello, world.", "anna", "EN"),
    TranscriptLine("anna/2.wav", "Größe 10 €", "anna", "DE"),
]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def problem(path: Path, kind: str = "auto") -> str:
    with pytest.raises(StageError) as caught:
        read_transcripts(path, kind)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    return message


def test_csv_with_quotes_and_columns_in_any_order(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.csv",
        'text,language,audio,speaker,extra\n"Hello, world.",EN,anna/1.wav,anna,x\nGröße 10 €,DE, anna/2.wav ,anna,\n',
    )
    assert read_transcripts(path, "auto") == TWO


def test_tsv_needs_no_quotes(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.tsv",
        "audio\tspeaker\tlanguage\ttext\nanna/1.wav\tanna\tEN\tHello, world.\nanna/2.wav\tanna\tDE\tGröße 10 €\n",
    )
    assert read_transcripts(path, "auto") == TWO


def test_tabs_are_recognised_under_any_suffix(tmp_path: Path) -> None:
    path = written(tmp_path / "t.txt", "path\ttext\na.wav\tHello, world.\n")
    assert read_transcripts(path, "auto") == [TranscriptLine("a.wav", "Hello, world.")]


@pytest.mark.parametrize("column", ["audio", "path", "file", "wav"])
def test_the_audio_column_has_several_names(tmp_path: Path, column: str) -> None:
    assert read_transcripts(written(tmp_path / "t.csv", f"{column},text\na.wav,Hi\n"), "table") == [
        TranscriptLine("a.wav", "Hi")
    ]


@pytest.mark.parametrize(
    ("cell", "synthetic"), [("true", True), ("False", False), ("", False), ("1", True), ("no", False)]
)
def test_synthetic_recordings_are_marked(tmp_path: Path, cell: str, synthetic: bool) -> None:
    path = written(tmp_path / "t.csv", f"audio,text,synthetic\na.wav,Hi,{cell}\n")
    assert read_transcripts(path, "auto") == [TranscriptLine("a.wav", "Hi", synthetic=synthetic)]


def test_a_mark_that_is_neither_true_nor_false_is_refused(tmp_path: Path) -> None:
    message = problem(written(tmp_path / "t.csv", "audio,text,synthetic\na.wav,Hi,maybe\n"))
    assert "synthetic is 'maybe' for 'a.wav'; expected true or false" in message


def test_truth_values_of_parquet(tmp_path: Path) -> None:
    table = pa.table({"audio": ["a.wav", "b.wav", "c.wav"], "text": ["a", "b", "c"], "synthetic": [True, False, None]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert [line.synthetic for line in read_transcripts(tmp_path / "t.parquet", "auto")] == [True, False, False]


def test_parquet_with_empty_cells(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"audio": ["a.wav", "b.wav"], "text": ["Hi", None], "speaker": [None, "bob"]}), tmp_path / "t.parquet"
    )
    assert read_transcripts(tmp_path / "t.parquet", "auto") == [
        TranscriptLine("a.wav", "Hi"),
        TranscriptLine("b.wav", "", "bob"),
    ]


@pytest.mark.parametrize("kind", ["auto", "bert_vits2"])
def test_the_list_of_bert_vits2(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / "train.list", "anna/1.wav|anna|EN|Hello, world.\n\nanna/2.wav|anna|DE|Größe 10 €\n")
    assert read_transcripts(path, kind) == TWO


def test_a_pipe_in_the_text_of_a_bert_vits2_list_is_text(tmp_path: Path) -> None:
    assert read_transcripts(written(tmp_path / "t.list", "a.wav|anna|EN|one|two\n"), "bert_vits2")[0].text == "one|two"


@pytest.mark.parametrize("kind", ["auto", "ljspeech"])
def test_the_metadata_of_ljspeech_prefers_normalised_text(tmp_path: Path, kind: str) -> None:
    path = written(
        tmp_path / "metadata.csv", 'LJ1|It cost $5|It cost five dollars\nLJ2|"Quoted, as is|\nLJ3|two fields\n'
    )
    texts = ["It cost five dollars", '"Quoted, as is', "two fields"]
    assert read_transcripts(path, kind) == [TranscriptLine(f"LJ{index + 1}", text) for index, text in enumerate(texts)]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert read_transcripts(written(tmp_path / "t.csv", b"\xef\xbb\xbfaudio,text\r\na.wav,Hi\r\n"), "auto") == [
        TranscriptLine("a.wav", "Hi")
    ]


def test_a_quoted_text_may_run_over_two_lines(tmp_path: Path) -> None:
    lines = read_transcripts(written(tmp_path / "t.csv", 'audio,text\na.wav,"one\ntwo"\nb.wav,three\n'), "auto")
    assert [line.text.split() for line in lines] == [["one", "two"], ["three"]]


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x85"])
def test_unusual_line_separators_inside_a_text_do_not_start_a_row(tmp_path: Path, separator: str) -> None:
    path = written(tmp_path / "t.csv", f"audio,text\na.wav,one{separator}two\nb.wav,three\n")
    assert [line.audio for line in read_transcripts(path, "table")] == ["a.wav", "b.wav"]
    path = written(tmp_path / "t.list", f"a.wav|anna|EN|one{separator}two\nb.wav|anna|EN|three\n")
    assert [line.audio for line in read_transcripts(path, "bert_vits2")] == ["a.wav", "b.wav"]


def test_a_wrong_column_is_named_with_those_found_and_expected(tmp_path: Path) -> None:
    message = problem(written(tmp_path / "t.csv", "audio,sentence\na.wav,Hi\n"))
    assert "column text is missing; columns found: audio, sentence; expected audio, text" in message
    assert "column audio and text is missing" in problem(written(tmp_path / "t.csv", "a,b\n1,2\n"))


def test_a_wrong_parquet_column_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"wav": ["a.wav"], "sentence": ["Hi"]}), tmp_path / "t.parquet")
    assert "column text is missing; columns found: wav, sentence" in problem(tmp_path / "t.parquet")


def test_an_unquoted_comma_does_not_cut_a_text_short(tmp_path: Path) -> None:
    message = problem(written(tmp_path / "t.csv", "audio,text\na.wav,Hi\nb.wav,Hello, world.\n"))
    assert "t.csv:3" in message


def test_a_quote_that_never_closes_does_not_swallow_the_rest(tmp_path: Path) -> None:
    rows = "".join(f"{index}.wav,Some text that is here.\n" for index in range(10_000))
    assert "t.csv" in problem(written(tmp_path / "t.csv", f'audio,text\na.wav,"Hello\n{rows}'))


def test_what_is_not_utf_8_is_refused_with_the_place_and_a_remedy(tmp_path: Path) -> None:
    message = problem(written(tmp_path / "t.csv", "audio,text\na.wav,Größe\n".encode("latin1")))
    assert "not UTF-8 at byte 19" in message and "iconv" in message


@pytest.mark.parametrize(("name", "header"), [("t.csv", "audio,text\n"), ("t.tsv", "audio\ttext\n"), ("t.list", "")])
def test_a_few_lines_that_are_not_utf_8_leave_the_others_whole(tmp_path: Path, name: str, header: str) -> None:
    between = {"t.csv": ",", "t.tsv": "\t", "t.list": "|anna|EN|"}[name]
    lines = [f"{index}.wav{between}Hello.\n".encode() for index in range(4)]
    content = header.encode() + b"".join(
        [*lines, f"b.wav{between}".encode(), b"Gr\xf6\xdfe\n", b"\xf6.wav", f"{between}Hi.\n".encode()]
    )
    found = read_transcripts(written(tmp_path / name, content), "auto")
    assert [line.text for line in found[:4]] == ["Hello."] * 4 and [
        undecodable_bytes(line.text) for line in found[:4]
    ] == [[]] * 4
    assert undecodable_bytes(found[4].text) == [0xF6, 0xDF]
    assert found[5].audio == "\\xf6.wav" and found[5].text == "Hi."


@pytest.mark.parametrize("content", ["", "\n  \n", "\ufeff"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    assert "the transcript file is empty" in problem(written(tmp_path / "t.csv", content))


def test_a_missing_file_names_the_parameter(tmp_path: Path) -> None:
    assert "set corpus.transcripts in params.yaml" in problem(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        ("bert_vits2", "a.wav|anna|Hello", "expected wav|speaker|language|text, found 3 fields"),
        ("ljspeech", "only", "found 1 fields: 'only'"),
    ],
)
def test_a_line_of_the_wrong_shape_is_named_by_its_number(tmp_path: Path, kind: str, line: str, message: str) -> None:
    good = "a.wav|anna|EN|Hi" if kind == "bert_vits2" else "a|Hi"
    found = problem(written(tmp_path / "t.txt", f"{good}\n{line}\n"), kind)
    assert "t.txt:2" in found and message in found


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    assert "not a readable Parquet file" in problem(written(tmp_path / "t.parquet", b"PAR1 not really"))
