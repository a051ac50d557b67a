"""Discriminators: equivalence of joint and separate passes, widths, gradients."""

from dataclasses import replace

import pytest
import torch

from model.config import DiscriminatorConfig
from model.training.discriminators import DurationDiscriminator, MultiPeriodDiscriminator

NARROW = DiscriminatorConfig(periods=(2, 3), channels=4, max_channels=16)


def waveforms(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_a_joint_pass_equals_two_separate_ones():
    discriminator = MultiPeriodDiscriminator(NARROW)
    real, generated = waveforms(3, 1, 1001), waveforms(3, 1, 1001, seed=1)
    with torch.no_grad():
        pair = discriminator(real, generated)
        for joint, alone in ((pair.real, real), (pair.generated, generated)):
            for output, expected in zip(joint, discriminator.outputs(alone), strict=True):
                torch.testing.assert_close(output.logits, expected.logits, rtol=1e-4, atol=1e-6)
                for left, right in zip(output.feature_maps, expected.feature_maps, strict=True):
                    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def test_a_period_discriminator_sees_no_other_phase():
    discriminator = MultiPeriodDiscriminator(replace(NARROW, periods=(3,), use_scale=False))
    waveform = waveforms(1, 1, 300)
    changed = waveform.clone()
    changed[..., 1::3] += 0.5
    with torch.no_grad():
        before, after = (discriminator.outputs(each)[0].logits.view(-1, 3) for each in (waveform, changed))
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])


@pytest.mark.parametrize(("channels", "max_channels"), [(1, 1), (3, 50), (6, 100), (8, 256)])
def test_any_base_width_and_cap_build(channels, max_channels):
    discriminator = MultiPeriodDiscriminator(replace(NARROW, channels=channels, max_channels=max_channels))
    assert [len(output.logits) for output in discriminator.outputs(waveforms(2, 1, 1500))] == [2, 2, 2]
    widths = {conv.out_channels for network in discriminator.discriminators for conv in network.convs}
    assert max(widths) <= max_channels


def test_the_scale_discriminator_can_be_left_out():
    assert len(MultiPeriodDiscriminator(replace(NARROW, use_scale=False)).discriminators) == 2


def test_gradients_reach_the_generated_waveform():
    generated = waveforms(2, 1, 900).requires_grad_()
    outputs = MultiPeriodDiscriminator(NARROW).outputs(generated)
    sum(output.logits.square().sum() for output in outputs).backward()
    assert generated.grad.abs().sum() > 0


def test_durations_carry_gradient_to_the_generator_but_the_text_encoding_does_not():
    discriminator = DurationDiscriminator(in_channels=6, filter_channels=8)
    encoded = torch.randn(2, 6, 5, requires_grad=True)
    log_durations = torch.randn(2, 1, 5, requires_grad=True)
    mask = torch.ones(2, 1, 5)
    _, probability = discriminator(encoded, mask, torch.zeros(2, 1, 5), log_durations)
    probability.sum().backward()
    assert encoded.grad is None
    assert log_durations.grad.abs().sum() > 0


def test_padded_phones_do_not_change_the_duration_verdict():
    discriminator = DurationDiscriminator(in_channels=6, filter_channels=8).eval()
    encoded, durations = torch.randn(1, 6, 9), torch.randn(2, 1, 1, 9)
    mask = (torch.arange(9) < 5).float().view(1, 1, 9)
    padded = discriminator(encoded, mask, *durations)
    short = discriminator(encoded[..., :5], mask[..., :5], *durations[..., :5])
    for left, right in zip(padded, short, strict=True):
        torch.testing.assert_close(left[:, :5], right)


def test_the_speaker_conditions_the_duration_verdict():
    discriminator = DurationDiscriminator(in_channels=6, filter_channels=8, speaker_channels=4).eval()
    inputs = (torch.randn(1, 6, 5), torch.ones(1, 1, 5), torch.zeros(1, 1, 5), torch.ones(1, 1, 5))
    first, second = (discriminator(*inputs, torch.randn(1, 4, 1))[0] for _ in range(2))
    assert not torch.allclose(first, second)
