"""WaveNet, posterior encoder, reference encoder."""

import pytest
import torch

from model.networks.posterior_encoder import PosteriorEncoder, WaveNet


def test_posterior_without_sampling_is_its_mean(small_config):
    encoder = PosteriorEncoder(small_config())
    spectrogram, lengths = torch.rand(2, 10, 7), torch.tensor([7, 4])
    encoding = encoder(spectrogram, lengths, torch.zeros(2, 8, 1), sample=False)
    assert torch.equal(encoding.latent, encoding.mean)
    assert encoding.latent[1, :, 4:].abs().sum() == 0


def test_wavenet_ignores_padding():
    network = WaveNet(hidden_channels=4, kernel_size=5, dilation_rate=2, n_layers=3)
    mask = torch.ones(1, 1, 9)
    mask[..., 6:] = 0
    hidden = torch.randn(1, 4, 9) * mask
    torch.testing.assert_close(network(hidden, mask)[..., :6], network(hidden[..., :6], mask[..., :6]))


def test_wavenet_refuses_even_kernels():
    with pytest.raises(ValueError, match="kernel_size 4 is even"):
        WaveNet(hidden_channels=4, kernel_size=4, dilation_rate=1, n_layers=1)
