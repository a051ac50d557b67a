"""Modules that exist for parity with the reference alone."""

import pytest
import torch

from model.checkpoints.published import reference_modules
from model.checkpoints.published.reference_modules import ReferenceAttention, ReferenceFeedForward, gaussian_kl


def test_proximal_init_starts_with_equal_projections():
    attention = ReferenceAttention(32, 32, 2, proximal_init=True)
    assert torch.equal(attention.query.weight, attention.key.weight)


@pytest.mark.parametrize("options", [{"proximal_bias": True}, {"block_length": 2}])
def test_distances_refuse_cross_attention(options):
    blocked = torch.zeros(1, 1, 3, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match="as many keys as queries, found 5 and 3"):
        ReferenceAttention(32, 32, 2, **options)(torch.randn(1, 32, 3), torch.randn(1, 32, 5), blocked)


def test_causal_feed_forward_sees_no_future():
    block = ReferenceFeedForward(channels=4, out_channels=4, filter_channels=8, kernel_size=3, causal=True)
    hidden, mask = torch.randn(1, 4, 6), torch.ones(1, 1, 6)
    changed = hidden.clone()
    changed[..., 4:] += 1
    torch.testing.assert_close(block(hidden, mask)[..., :4], block(changed, mask)[..., :4])


def test_timing_signal_is_appended_for_every_batch_item():
    extended = reference_modules.append_timing_signal(torch.zeros(3, 4, 5))
    assert extended.shape == (3, 8, 5)
    assert torch.equal(extended[0], extended[2])


def test_timing_signal_of_odd_width_ends_in_zeros():
    signal = reference_modules.timing_signal(4, 5)
    assert signal.shape == (1, 5, 4)
    assert signal[0, 4].abs().sum() == 0


def test_gaussian_kl_is_the_one_of_torch():
    mean, log_std, other_mean, other_log_std = torch.randn(4, 2, 3, 5).unbind()
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(other_mean, other_log_std.exp())
    )
    torch.testing.assert_close(gaussian_kl(mean, log_std, other_mean, other_log_std), expected, rtol=1e-4, atol=1e-5)
