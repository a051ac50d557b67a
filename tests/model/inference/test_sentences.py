"""Texts in pieces: every mark and abbreviation that does or does not end a sentence, and cuts where none does."""

import pytest

from model.inference.sentences import LIMITS, PARAGRAPH_PAUSE_SECONDS, SENTENCE_PAUSE_SECONDS, split_text

CASES = [
    ("EN", "Hello. How are you? Fine!", ["Hello.", "How are you?", "Fine!"]),
    ("EN", "hello. how are you?", ["hello.", "how are you?"]),
    (
        "EN",
        "Dr. Smith met Mrs. Jones at 5 Elm St. in Boston. He left.",
        ["Dr. Smith met Mrs. Jones at 5 Elm St. in Boston.", "He left."],
    ),
    ("EN", "J. K. Rowling and the U.S. Army, e.g. here. Yes.", ["J. K. Rowling and the U.S. Army, e.g. here.", "Yes."]),
    (
        "EN",
        "It costs $3.50, see example.com or No. 5. I said no. Bye.",
        ["It costs $3.50, see example.com or No. 5.", "I said no.", "Bye."],
    ),
    ("EN", "At 5 p.m. today. It was 5 p.m. Then we left.", ["At 5 p.m. today.", "It was 5 p.m.", "Then we left."]),
    ("EN", "“Stop!” he said. “Go.” She went.", ["“Stop!” he said.", "“Go.”", "She went."]),
    ("EN", "Well... perhaps. Really?! ... Yes", ["Well... perhaps.", "Really?! ...", "Yes"]),
    ("EN", "One line\nand its end.", ["One line\nand its end."]),
    ("ZH", "你好。价格是3.5元！真的吗？！是的……对", ["你好。", "价格是3.5元！", "真的吗？！", "是的……", "对"]),
    ("ZH", "“好。”他说。我是Dr. Wang。", ["“好。”他说。", "我是Dr. Wang。"]),
    (
        "JP",
        "「はい。」と言った。今日は！「一。」「二。」",
        ["「はい。」と言った。", "今日は！", "「一。」", "「二。」"],
    ),
    ("EN", "...", ["..."]),
]


@pytest.mark.parametrize(("language", "text", "expected"), CASES)
def test_a_text_is_split_after_its_sentences(language: str, text: str, expected: list[str]) -> None:
    assert [piece.text for piece in split_text(text, language)] == expected


def test_pauses_follow_sentences_and_paragraphs_but_not_the_end() -> None:
    pieces = split_text("One. Two.\n \nThree. Four.\n", "EN")
    assert [(piece.text, piece.pause_seconds) for piece in pieces] == [
        ("One.", SENTENCE_PAUSE_SECONDS),
        ("Two.", PARAGRAPH_PAUSE_SECONDS),
        ("Three.", SENTENCE_PAUSE_SECONDS),
        ("Four.", 0.0),
    ]


@pytest.mark.parametrize(
    ("language", "text", "mark"),
    [
        ("EN", "some words, and more; " * 30, ";"),
        ("EN", "some words, " * 40, ","),
        ("ZH", "你好吗，" * 50, "，"),
        ("JP", "そして、" * 60, "、"),
    ],
)
def test_a_long_sentence_is_cut_after_its_marks_without_a_pause(language: str, text: str, mark: str) -> None:
    pieces = split_text(text, language)
    assert len(pieces) > 1 and all(piece.pause_seconds == 0 for piece in pieces)
    assert all(
        LIMITS[language] / 3 <= len(piece.text) <= LIMITS[language] and piece.text.endswith(mark)
        for piece in pieces[:-1]
    )


@pytest.mark.parametrize(("language", "text"), [("EN", "word " * 300), ("EN", "x" * 1000), ("ZH", "好" * 333)])
def test_cutting_where_there_are_no_marks_loses_nothing(language: str, text: str) -> None:
    pieces = split_text(text, language)
    assert max(len(piece.text) for piece in pieces) <= LIMITS[language]
    assert "".join(piece.text for piece in pieces).replace(" ", "") == text.replace(" ", "")
