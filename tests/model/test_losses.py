"""Losses: the golden numbers, their minima, masks, and where gradients go."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.losses import (
    discriminator_loss,
    duration_loss,
    feature_matching_loss,
    generator_loss,
    kl_loss,
    mel_loss,
)

GOLDEN = Path(os.environ.get("GOLDEN_MODEL", Path(__file__).parents[1] / "golden" / "model"))


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "losses.safetensors")


def test_golden_adversarial_losses(golden):
    real, generated = [golden["in.dr0"], golden["in.dr1"]], [golden["in.dg0"], golden["in.dg1"]]
    loss = discriminator_loss(real, generated)
    torch.testing.assert_close(loss.total, golden["out.discriminator"], rtol=1e-6, atol=0)
    torch.testing.assert_close(sum(loss.real_parts) + sum(loss.generated_parts), loss.total)
    total, parts = generator_loss(generated)
    torch.testing.assert_close(total, golden["out.generator"], rtol=1e-6, atol=0)
    assert len(parts) == 2


def test_golden_feature_matching(golden):
    real = [[golden["in.fr00"], golden["in.fr01"]], [golden["in.fr10"]]]
    generated = [[golden["in.fg00"], golden["in.fg01"]], [golden["in.fg10"]]]
    loss = feature_matching_loss(real, generated)
    torch.testing.assert_close(loss, golden["out.feature"], rtol=1e-6, atol=0)


def test_golden_kl(golden):
    loss = kl_loss(*(golden[f"in.{name}"] for name in ("z_p", "logs_q", "m_p", "logs_p", "z_mask")))
    torch.testing.assert_close(loss, golden["out.kl"], rtol=1e-6, atol=0)


def test_adversarial_losses_vanish_at_their_targets():
    ones, zeros = [torch.ones(2, 5)], [torch.zeros(2, 5)]
    assert discriminator_loss(ones, zeros).total == 0
    assert generator_loss(ones)[0] == 0
    assert discriminator_loss(zeros, ones).total == 2


def test_feature_matching_moves_the_generated_side_alone():
    real, generated = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    feature_matching_loss([[real]], [[generated]]).backward()
    assert real.grad is None
    torch.testing.assert_close(generated.grad, torch.full((2, 3), 2 / 6))


def test_feature_matching_refuses_unequal_networks():
    with pytest.raises(ValueError, match="zip"):
        feature_matching_loss([[torch.zeros(1)]], [])


def test_kl_of_equal_gaussians_is_zero_on_average_over_samples():
    generator = torch.Generator().manual_seed(0)
    mean, log_std = torch.randn(1, 4, 1, generator=generator), torch.randn(1, 4, 1, generator=generator)
    samples = mean + torch.exp(log_std) * torch.randn(1, 4, 50_000, generator=generator)
    loss = kl_loss(samples, log_std, mean, log_std, torch.ones(1, 1, 50_000))
    assert abs(float(loss)) < 0.03


def test_masked_positions_do_not_count():
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[[1.0, 1.0, 0.0]]])
    latent, log_q, mean, log_p = torch.randn(4, 1, 2, 3, generator=generator).unbind()
    spoiled = latent.clone()
    spoiled[..., 2] = 1e4
    assert kl_loss(spoiled, log_q, mean, log_p, mask) == kl_loss(latent, log_q, mean, log_p, mask)
    predicted, target = torch.tensor([[[1.0, 2.0, 99.0]]]), torch.tensor([[[1.0, 4.0, 0.0]]])
    assert duration_loss(predicted, target, mask) == 2.0


def test_mel_loss_is_the_mean_absolute_difference():
    assert mel_loss(torch.zeros(1, 2, 2), torch.tensor([[[1.0, -1.0], [2.0, 0.0]]])) == 1.0
