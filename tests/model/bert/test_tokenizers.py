"""Places of word pieces in the text, for tokenizers that know them and for those that do not."""

from pathlib import Path

import pytest

from model.bert.tokenizers import EncoderError, TokenizerWithOffsets, find_pieces

VOCABULARY = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "東京",
    "タワー",
    "に",
    "##に",
    "行",
    "##き",
    "##たい",
    ".",
    "A",
    "##I",
    "ai",
)


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        ("hello world", ["hel", "##lo", "world"], [(0, 3), (3, 5), (6, 11)]),
        ("Hello", ["hel", "##lo"], [(0, 3), (3, 5)]),
        ("東京に行きたい", ["東京", "に", "行き", "##たい"], [(0, 2), (2, 3), (3, 5), (5, 7)]),
        ("Ａｂ１", ["ab", "##1"], [(0, 2), (2, 3)]),  # full-width characters whose pieces are narrow
        ("a 魃 b", ["a", "[UNK]", "b"], [(0, 1), (1, 4), (4, 5)]),
        ("魃魅", ["[UNK]", "[UNK]"], [(0, 2), (2, 2)]),
        ("", [], []),
    ],
)
def test_pieces_are_found_in_the_text_in_order(text, pieces, expected):
    assert find_pieces(text, pieces, "[UNK]") == expected


@pytest.fixture
def slow_tokenizer(tmp_path: Path) -> Path:
    """The kind of tokenizer that Japanese BERTs have, with characters for words: it has no fast version."""
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCABULARY, *"東京タワーにきたい"]), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic", "subword_tokenizer_type": "character", "do_lower_case": false}',
        encoding="utf-8",
    )
    return tmp_path


def test_a_tokenizer_without_offsets_gets_them(slow_tokenizer: Path) -> None:
    tokenizer = TokenizerWithOffsets(slow_tokenizer)
    (tokens,) = tokenizer(["東京タワーに 行きたい."])
    n_characters = len("東京タワーに行きたい.")
    assert len(tokens.ids) == len(tokens.offsets) == n_characters + 2
    assert tokens.offsets[1:-1] == tuple((place, place + 1) for place in range(12) if place != 6)
    assert (tokens.ids[0], tokens.ids[-1]) == (2, 3)


def test_a_tokenizer_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(EncoderError) as caught:
        TokenizerWithOffsets(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_tokenizer_whose_package_is_missing_names_it(slow_tokenizer: Path) -> None:
    text = (slow_tokenizer / "tokenizer_config.json").read_text(encoding="utf-8")
    (slow_tokenizer / "tokenizer_config.json").write_text(text.replace("basic", "mecab"), encoding="utf-8")
    with pytest.raises(EncoderError, match="fugashi"):
        TokenizerWithOffsets(slow_tokenizer)
