import pytest

from model.text.alignment import phones_to_tokens, with_blanks
from model.text.errors import TextError

# "hello, world." as [CLS] hel ##lo , world . [SEP]
OFFSETS = [(0, 0), (0, 3), (3, 5), (5, 6), (7, 12), (12, 13), (0, 0)]
SPANS = [(0, 5), (5, 6), (7, 12), (12, 13)]


def test_phones_of_a_word_are_spread_over_its_tokens():
    assert phones_to_tokens(SPANS, [4, 1, 4, 1], OFFSETS) == [0, 1, 1, 2, 2, 3, 4, 4, 4, 4, 5, 6]


def test_more_tokens_than_phones_skips_tokens_evenly():
    offsets = [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (0, 0)]
    assert phones_to_tokens([(0, 4)], [2], offsets) == [0, 1, 3, 5]


def test_one_token_over_two_words_serves_both():
    assert phones_to_tokens([(0, 2), (2, 3)], [2, 1], [(0, 0), (0, 3), (0, 0)]) == [0, 1, 1, 1, 2]


def test_word_without_token_takes_the_nearest_before():
    offsets = [(0, 0), (0, 2), (5, 7), (0, 0)]
    assert phones_to_tokens([(0, 2), (3, 4), (5, 7)], [1, 2, 1], offsets) == [0, 1, 1, 1, 2, 3]


def test_first_word_without_token_takes_the_opening_token():
    assert phones_to_tokens([(0, 1), (2, 3)], [1, 1], [(0, 0), (2, 3), (0, 0)]) == [0, 0, 1, 2]


def test_truncated_tokens_give_later_words_the_last_real_token():
    assert phones_to_tokens([(0, 1), (2, 3)], [1, 2], [(0, 0), (0, 1), (0, 0)]) == [0, 1, 1, 1, 2]


def test_offsets_that_include_the_space_before_a_word_still_belong_to_it():
    # Sentence-piece tokenisers count the space to the following word.
    offsets = [(0, 0), (0, 5), (5, 6), (6, 12), (0, 0)]
    assert phones_to_tokens([(0, 5), (5, 6), (7, 12)], [1, 1, 1], offsets) == [0, 1, 2, 3, 4]


def test_blanks_belong_to_the_phone_before_and_the_first_one_to_the_first():
    assert with_blanks([0, 3, 4]) == [0, 0, 0, 3, 3, 4, 4]


def test_spans_and_counts_of_different_length_are_refused():
    with pytest.raises(TextError, match="4 word spans but 3"):
        phones_to_tokens(SPANS, [1, 1, 1], OFFSETS)
