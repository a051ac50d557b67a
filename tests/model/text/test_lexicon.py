"""The user's lexicon file: what it may hold, and errors that name the line and the remedy."""

from pathlib import Path

import pytest

from model.text.errors import TextError
from model.text.lexicon import entries_in, read_lexicon

HEADER = "language\tword\treading\n"
ROOT = Path(__file__).parents[3]


def written(folder, text):
    path = folder / "lexicon.tsv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problem(folder, text):
    with pytest.raises(TextError) as caught:
        read_lexicon(written(folder, text))
    assert caught.value.reason_code == "invalid_lexicon" and "\n" not in caught.value.detail
    return caught.value.detail


def test_readings_by_language_and_word(tmp_path):
    text = f"# mine\n\n{HEADER}EN\ttomato\tT AH0 M AA1 T OW0\n# JP\tx\ty\nEN\tAsterisk\tAE1 S T\n"
    expected = {"EN": {"tomato": "T AH0 M AA1 T OW0", "Asterisk": "AE1 S T"}}
    assert read_lexicon(written(tmp_path, text)) == expected


def test_the_marks_that_editors_leave_are_no_part_of_it(tmp_path):
    text = f"{HEADER}EN\t tomato\tT OW0 \n".replace("\n", "\r\n")
    assert read_lexicon(written(tmp_path, b"\xef\xbb\xbf" + text.encode())) == {"EN": {"tomato": "T OW0"}}


def test_the_projects_own_lexicon_is_empty_but_for_its_header_and_an_example():
    assert read_lexicon(ROOT / "lexicon.tsv") == {}
    assert "# EN\t" in (ROOT / "lexicon.tsv").read_text(encoding="utf-8")


def test_the_example_is_a_reading_that_works(tmp_path):
    text = (ROOT / "lexicon.tsv").read_text(encoding="utf-8")
    example = next(line for line in text.splitlines() if line.startswith("# EN\t")).removeprefix("# ")
    assert read_lexicon(written(tmp_path, f"{HEADER}{example}\n"))["EN"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("EN\ttomato\tT OW0\n", 1, "expected the header language<tab>word<tab>reading"),
        (f"{HEADER}EN tomato T OW0\n", 2, "separate three fields with tabs"),
        (f"{HEADER}EN\ttomato\t\n", 2, "separate three fields with tabs"),
        (f"{HEADER}EN\ttomato\tT OW0\tmore\n", 2, "separate three fields with tabs"),
        (f"{HEADER}DE\ttomato\tT OW0\n", 2, "unknown language 'DE'; use one of"),
        (
            f"{HEADER}EN\ttomato\tT OW0\n\n# x\nEN\tTomato\tT AA1\n",
            5,
            "'Tomato' has a reading in line 2 already; keep one",
        ),
        (f"{HEADER}EN\tcat\tK AE1 T\nEN\ttomato\tT OW9\n", 3, "['OW9']; expected ARPAbet"),
        (f"{HEADER}EN\ttwo words\tT OW0\n", 2, "not one English word"),
        (HEADER.encode() + b"EN\tcaf\xe9\tK\n", 2, "not UTF-8; save the file as UTF-8"),
    ],
)
def test_an_error_names_the_line_and_the_remedy(tmp_path, text, line, message):
    detail = problem(tmp_path, text)
    assert detail.startswith(f"{tmp_path / 'lexicon.tsv'}:{line}: ") and message in detail


@pytest.mark.parametrize("text", ["", "# only remarks\n"])
def test_a_file_without_a_header_is_refused(tmp_path, text):
    assert "begin the file with the line language<tab>word<tab>reading" in problem(tmp_path, text)


def test_a_missing_file_says_what_an_empty_one_holds(tmp_path):
    with pytest.raises(TextError, match=r"No such file.*holds the line language<tab>word<tab>reading"):
        read_lexicon(tmp_path / "none.tsv")


def test_entries_occur_whatever_the_case_and_the_form_of_their_characters():
    lexicon = {"EN": {"Tomato": "1", "cat": "2"}, "ZH": {"重庆": "3"}}
    assert entries_in(lexicon, "ＴＯＭＡＴＯＥＳ") == {"EN": {"Tomato": "1"}}
    assert entries_in(lexicon, "去", "重庆了") == {"ZH": {"重庆": "3"}}
    assert entries_in(lexicon, "dog") == {}


def test_a_word_does_not_occur_across_two_texts():
    assert entries_in({"EN": {"cat": "1"}}, "c", "at") == {}
