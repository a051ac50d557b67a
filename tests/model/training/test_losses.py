"""Losses: their minima, masks, and where gradients go."""

import numpy as np
import pytest
import torch

from model.training.losses import (
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    kl_loss,
    mel_cepstral_distortion,
    mel_loss,
)


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


def test_mel_loss_is_the_mean_absolute_difference():
    assert mel_loss(torch.zeros(1, 2, 2), torch.tensor([[[1.0, -1.0], [2.0, 0.0]]])) == 1.0


def test_distortion_is_that_of_the_cosine_series() -> None:
    n_bands, n_frames = 80, 7
    middles = (np.arange(n_bands) + 0.5) / n_bands
    reference = torch.randn(1, n_bands, n_frames, generator=torch.Generator().manual_seed(1))
    # The other has 0.1 more of the third cosine and 0.2 less of the fifth; level and what is above order 24 do not
    # count.
    change = (
        0.1 * np.cos(3 * np.pi * middles) - 0.2 * np.cos(5 * np.pi * middles) + 0.7 + 0.9 * np.cos(30 * np.pi * middles)
    )
    other = reference + torch.from_numpy(change).float()[None, :, None]
    expected = 10 / np.log(10) * np.sqrt(2 * (0.1**2 + 0.2**2))
    assert float(mel_cepstral_distortion(reference, other)) == pytest.approx(expected, rel=1e-4)
    assert float(mel_cepstral_distortion(reference, reference)) == 0.0
