"""Token features expanded to phones: zero for other languages, and with the blanks of the reference."""

import numpy as np
import pytest

from model.bert.phone_features import expand_to_phones, token_rows


def features(n_tokens: int, n_channels: int, start: int) -> np.ndarray:
    made = (start + np.arange(n_tokens * n_channels).reshape(n_tokens, n_channels)).astype(np.float16)
    return np.concatenate([np.zeros((1, n_channels), np.float16), made])


@pytest.mark.parametrize("add_blank", [False, True])
def test_tokens_lie_on_their_phones_and_leave_zeros_to_the_other_language(add_blank):
    phone_tokens, n_phones = np.array([0, 1, 1, 1, 2, 1, 2]), np.array([3, 2, 2])  # ZH of 3 tokens, EN of 4, ZH of 3
    languages = {"ZH": (features(6, 2, 1), np.array([3, 0, 3])), "EN": (features(4, 3, 101), np.array([0, 4, 0]))}
    tokens = [("ZH", 1), ("ZH", 2), ("ZH", 2), ("EN", 2), ("EN", 3), ("ZH", 5), ("ZH", 6)]
    if add_blank:  # a blank belongs to the phone before it, the first one to the first phone
        tokens = [tokens[0], *(token for token in tokens for _ in range(2))]
    for language, (values, n_tokens) in languages.items():
        (plane,) = expand_to_phones(values, token_rows(phone_tokens, n_phones, n_tokens)[None], add_blank)
        expected = [values[row] if name == language else np.zeros(values.shape[1]) for name, row in tokens]
        assert np.array_equal(plane, expected)


def test_blanks_take_the_tokens_that_a_whole_text_gave_them():
    values, tokens = features(4, 2, 1), [0, 1, 1, 3]
    rows = token_rows(np.array(tokens), np.array([4]), np.array([4]))
    assert np.array_equal(expand_to_phones(values, rows[None], True)[0], values[1:][[tokens[0], *np.repeat(tokens, 2)]])


@pytest.mark.parametrize("add_blank", [False, True])
def test_shorter_utterances_are_zero_behind_their_end(add_blank):
    values = features(3, 2, 1)
    out = np.ones((2, 11 if add_blank else 5, 2), np.float16)
    assert expand_to_phones(values, np.array([[1, 2, 3, 0, 0], [1, 1, 2, 2, 3]]), add_blank, out) is out
    n_spoken = 7 if add_blank else 3
    assert out[0, :n_spoken].all() and not out[0, n_spoken:].any() and out[1].all()


@pytest.mark.parametrize("token", [-1, 3])
def test_a_token_that_its_span_does_not_have_is_an_error(token):
    phone_tokens = np.array([0, token, 1])
    with pytest.raises(IndexError, match=f"token {token} of a span of 3 tokens"):
        token_rows(phone_tokens, np.array([2, 1]), np.array([3, 4]))
    assert token_rows(phone_tokens, np.array([2, 1]), np.array([0, 4])).tolist() == [
        0,
        0,
        2,
    ]  # another language's phones are not looked at
