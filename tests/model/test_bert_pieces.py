"""Features of language spans on their phones: in place, zero elsewhere, and with blanks where the reference puts them."""

import numpy as np
import pytest

from model.bert_pieces import bert_piece, spread
from model.text.alignment import with_blanks


def features(n_tokens: int, n_channels: int, start: int) -> np.ndarray:
    return (start + np.arange(n_tokens * n_channels).reshape(n_tokens, n_channels)).astype(np.float16)


ZH, EN = features(3, 2, 1), features(4, 3, 101)


@pytest.mark.parametrize("add_blank", [False, True])
def test_pieces_lie_side_by_side_and_leave_zeros_to_the_other_language(add_blank):
    pieces = [bert_piece("ZH", 0, [0, 1, 1], ZH, add_blank), bert_piece("EN", 3, [1, 2], EN, add_blank), bert_piece("ZH", 5, [1, 2], ZH, add_blank)]
    n_phones = 2 * 7 + 1 if add_blank else 7
    planes = spread([pieces], {"ZH": 2, "EN": 3}, n_phones)
    tokens = [("ZH", 0), ("ZH", 1), ("ZH", 1), ("EN", 1), ("EN", 2), ("ZH", 1), ("ZH", 2)]
    if add_blank:  # a blank belongs to the phone before it, the first one to the first phone
        tokens = [tokens[0], *(token for token in tokens for _ in range(2))]
    for position, (language, token) in enumerate(tokens):
        expected = {"ZH": np.zeros(2), "EN": np.zeros(3), language: {"ZH": ZH, "EN": EN}[language][token]}
        assert np.array_equal(planes["ZH"][0, position], expected["ZH"]), position
        assert np.array_equal(planes["EN"][0, position], expected["EN"]), position


def test_one_piece_with_blanks_is_what_a_whole_text_was():
    assert bert_piece("EN", 0, [0, 1, 1, 3], EN, True).index.tolist() == with_blanks([0, 1, 1, 3])


def test_shorter_utterances_are_zero_behind_their_end_and_unknown_languages_are_left_out():
    planes = spread([[bert_piece("ZH", 0, [0, 1, 2], ZH, False)], [bert_piece("JP", 0, [0, 1], EN, False)]], {"ZH": 2}, 5)
    assert set(planes) == {"ZH"} and planes["ZH"].shape == (2, 5, 2)
    assert planes["ZH"][0, :3].all() and not planes["ZH"][0, 3:].any() and not planes["ZH"][1].any()
