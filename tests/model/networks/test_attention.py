"""Attention variants, feed-forward blocks, normalisation."""

import pytest
import torch

from model.networks.attention import FeedForward, MultiHeadAttention


def test_relative_window_equals_the_plain_formula():
    attention = MultiHeadAttention(32, 32, 2, window=2)
    hidden = torch.randn(1, 32, 6)
    probabilities = attention.probabilities(hidden, hidden)
    query = attention._heads(attention.query, hidden) / 4
    key = attention._heads(attention.key, hidden)
    scores = query @ key.transpose(2, 3)
    for row in range(6):
        for column in range(max(0, row - 2), min(6, row + 3)):
            embedding = attention.relative_keys[0, column - row + 2]
            scores[:, :, row, column] += query[:, :, row] @ embedding
    torch.testing.assert_close(probabilities, scores.softmax(-1))


def test_window_may_exceed_the_sequence():
    attention = MultiHeadAttention(32, 32, 2, window=4)
    hidden = torch.randn(2, 32, 1)
    assert attention(hidden, hidden).shape == (2, 32, 1)


def test_blocked_keys_do_not_matter():
    attention = MultiHeadAttention(32, 32, 2, window=4)
    hidden = torch.randn(1, 32, 6)
    blocked = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    blocked[..., 4:] = True
    changed = hidden.clone()
    changed[..., 4:] += 1
    torch.testing.assert_close(
        attention(hidden, hidden, blocked)[..., :4], attention(changed, changed, blocked)[..., :4]
    )


def test_relative_attention_refuses_cross_attention():
    with pytest.raises(ValueError, match="as many keys as queries, found 5 and 3"):
        MultiHeadAttention(32, 32, 2, window=2)(torch.randn(1, 32, 3), torch.randn(1, 32, 5))


def test_heads_must_divide_channels():
    with pytest.raises(ValueError, match="3 heads do not divide 32 channels"):
        MultiHeadAttention(32, 32, 3, window=None)


def test_even_kernel_keeps_the_length():
    block = FeedForward(channels=4, out_channels=4, filter_channels=8, kernel_size=4)
    assert block(torch.randn(1, 4, 6), torch.ones(1, 1, 6)).shape == (1, 4, 6)
