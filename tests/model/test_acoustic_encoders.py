"""WaveNet, posterior encoder, reference encoder."""

import pytest
import torch

from model.acoustic_encoders import PosteriorEncoder, ReferenceEncoder, WaveNet
from model.checkpoint import load_reference_state
from model.config import ModelConfig


def test_golden_posterior_encoder(golden):
    case = golden("posterior_encoder")
    config, given = case.config, case.inputs
    encoder = PosteriorEncoder(
        ModelConfig(
            spectrogram_channels=config["in_channels"],
            inter_channels=config["out_channels"],
            hidden_channels=config["hidden_channels"],
            speaker_channels=config["gin_channels"],
            posterior_layers=config["n_layers"],
            posterior_kernel_size=config["kernel_size"],
            posterior_dilation_rate=config["dilation_rate"],
        )
    ).eval()
    load_reference_state(encoder, case.state, prefix="enc_q")
    torch.manual_seed(config["noise_seed"])
    encoding = encoder(given["spec"], given["spec_lengths"], given["g"])
    case.check("z", encoding.latent)
    case.check("m_q", encoding.mean)
    case.check("logs_q", encoding.log_std)
    case.check("mask", encoding.frame_mask)


def test_golden_reference_encoder(golden):
    case = golden("reference_encoder")
    encoder = ReferenceEncoder(case.config["spec_channels"], case.config["gin_channels"])
    load_reference_state(encoder, case.state, prefix="ref_enc")
    case.check("g", encoder(case.inputs["spec"]))


def test_posterior_without_sampling_is_its_mean(small_config):
    encoder = PosteriorEncoder(small_config())
    spectrogram, lengths = torch.rand(2, 10, 7), torch.tensor([7, 4])
    encoding = encoder(spectrogram, lengths, torch.zeros(2, 8, 1), sample=False)
    assert torch.equal(encoding.latent, encoding.mean)
    assert encoding.latent[1, :, 4:].abs().sum() == 0


@pytest.mark.parametrize("n_layers", [1, 4])
def test_posterior_has_as_many_layers_as_configured(small_config, n_layers):
    assert len(PosteriorEncoder(small_config(posterior_layers=n_layers)).wavenet.gate_convs) == n_layers


def test_wavenet_ignores_padding():
    network = WaveNet(hidden_channels=4, kernel_size=5, dilation_rate=2, n_layers=3)
    mask = torch.ones(1, 1, 9)
    mask[..., 6:] = 0
    hidden = torch.randn(1, 4, 9) * mask
    torch.testing.assert_close(network(hidden, mask)[..., :6], network(hidden[..., :6], mask[..., :6]))


def test_wavenet_refuses_even_kernels():
    with pytest.raises(ValueError, match="kernel_size 4 is even"):
        WaveNet(hidden_channels=4, kernel_size=4, dilation_rate=1, n_layers=1)
