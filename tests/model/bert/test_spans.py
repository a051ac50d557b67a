import pytest

from model.bert.spans import language_spans, phones_to_tokens
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


def test_spans_and_counts_of_different_length_are_refused():
    with pytest.raises(TextError, match="4 word spans but 3"):
        phones_to_tokens(SPANS, [1, 1, 1], OFFSETS)


# "我用GPT写字." with two Mandarin phones a character, and letters of three English phones in all.
MIXED = "我用GPT写字."
MIXED_SPANS = [(0, 1), (1, 2), (2, 5), (5, 6), (6, 7), (7, 8)]
MIXED_COUNTS = [2, 2, 6, 2, 2, 1]
MIXED_LANGUAGES = ["ZH", "ZH", "EN", "ZH", "ZH", "ZH"]


def test_words_of_one_language_in_a_row_are_a_span_with_a_text_of_its_own():
    spans = language_spans(MIXED, MIXED_SPANS, MIXED_COUNTS, MIXED_LANGUAGES)
    assert [(span.language, span.text) for span in spans] == [("ZH", "我用"), ("EN", "GPT"), ("ZH", "写字.")]
    assert [span.word_spans for span in spans] == [((0, 1), (1, 2)), ((0, 3),), ((0, 1), (1, 2), (2, 3))]


def test_spans_hold_every_phone_and_both_pads_once():
    spans = language_spans(MIXED, MIXED_SPANS, MIXED_COUNTS, MIXED_LANGUAGES)
    positions = [position for span in spans for position in range(span.first_phone, span.first_phone + span.n_phones)]
    assert positions == list(range(sum(MIXED_COUNTS) + 2))
    assert [span.n_phones for span in spans] == [1 + 4, 6, 5 + 1]


def test_pads_take_the_special_tokens_of_the_outer_spans_and_inner_borders_take_none():
    first, second, third = language_spans(MIXED, MIXED_SPANS, MIXED_COUNTS, MIXED_LANGUAGES)
    assert first.phone_tokens([(0, 0), (0, 1), (1, 2), (0, 0)]) == [0, 1, 1, 2, 2]
    assert second.phone_tokens([(0, 0), (0, 1), (1, 3), (0, 0)]) == [1, 1, 1, 2, 2, 2]
    assert third.phone_tokens([(0, 0), (0, 2), (2, 3), (0, 0)]) == [1, 1, 1, 1, 2, 3]


def test_a_text_in_one_language_is_one_span_and_takes_what_it_took():
    (span,) = language_spans("hello, world.", SPANS, [4, 1, 4, 1], ["EN"] * 4)
    assert (span.text, span.first_phone, span.n_phones) == ("hello, world.", 0, 12)
    assert span.phone_tokens(OFFSETS) == phones_to_tokens(SPANS, [4, 1, 4, 1], OFFSETS)


def test_spaces_between_spans_are_in_none_of_them():
    spans = language_spans("我 go 去", [(0, 1), (2, 4), (5, 6)], [1, 2, 1], ["ZH", "EN", "ZH"])
    assert [span.text for span in spans] == ["我", "go", "去"]


@pytest.mark.parametrize(
    ("spans", "counts", "languages", "message"),
    [
        ([(0, 1)], [1], [], "1 word spans, 1 phone counts and 0 languages"),
        ([], [], [], "0 word spans, 0 phone counts and 0 languages"),
        ([(0, 9)], [1], ["ZH"], "words at characters 0 to 9 of a text of 8"),
    ],
)
def test_words_that_do_not_fit_the_text_have_no_spans(spans, counts, languages, message):
    with pytest.raises(TextError, match=message):
        language_spans(MIXED, spans, counts, languages)
