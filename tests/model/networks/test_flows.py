"""Coupling flows and the rational quadratic spline."""

import pytest
import torch

from model.networks.flows import CouplingFlow, rational_quadratic_spline


@pytest.mark.parametrize(
    ("kind", "shared", "n_flows"),
    [("transformer", False, 1), ("transformer", False, 3), ("transformer", True, 2), ("residual", False, 2)],
)
def test_flow_inverts_itself(small_config, kind, shared, n_flows):
    flow = CouplingFlow(small_config(flow=kind, share_flow_parameters=shared, n_flows=n_flows)).eval()
    for coupling in flow.couplings:
        torch.nn.init.normal_(coupling.post.weight)
    mask = torch.ones(2, 1, 7)
    mask[1, :, 5:] = 0
    latent, speaker = torch.randn(2, 8, 7) * mask, torch.randn(2, 8, 1)
    latent_prior = flow(latent, mask, speaker)
    assert (latent_prior - latent).abs().max() > 0.1
    torch.testing.assert_close(flow(latent_prior, mask, speaker, reverse=True), latent, atol=1e-4, rtol=1e-4)


def test_new_flow_only_reorders_channels(small_config):
    flow = CouplingFlow(small_config(n_flows=2))
    latent = torch.randn(1, 8, 7)
    assert torch.equal(flow(latent, torch.ones(1, 1, 7), torch.randn(1, 8, 1)), latent)


@pytest.mark.parametrize("kind", ["transformer", "residual"])
def test_shared_flow_has_the_parameters_of_one_network(small_config, kind):
    own, shared = (
        CouplingFlow(small_config(flow=kind, n_flows=4, share_flow_parameters=share)) for share in (False, True)
    )
    assert len(own.networks) == 4
    assert len(shared.networks) == 1
    assert len(shared.couplings) == 4


def random_spline(n_bins: int = 10) -> tuple[torch.Tensor, ...]:
    return torch.randn(200, n_bins), torch.randn(200, n_bins), torch.randn(200, n_bins - 1)


def test_spline_is_the_identity_outside_its_bound():
    inputs = torch.tensor([-7.0, -5.1, 5.1, 100.0])
    outputs, log_derivative = rational_quadratic_spline(
        inputs, *(parameter[:4] for parameter in random_spline()), bound=5.0
    )
    assert torch.equal(outputs, inputs)
    assert log_derivative.abs().sum() == 0


def test_spline_derivative_is_the_one_of_autograd():
    inputs = torch.linspace(-6, 6, 200, dtype=torch.float64, requires_grad=True)
    parameters = tuple(parameter.double() for parameter in random_spline())
    outputs, log_derivative = rational_quadratic_spline(inputs, *parameters, bound=5.0)
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)
    torch.testing.assert_close(gradient.log(), log_derivative)


def test_spline_gradients_are_finite_everywhere():
    inputs = torch.tensor([-100.0, -5.0, 0.0, 5.0, 100.0], requires_grad=True)
    parameters = tuple(parameter[:5].clone().requires_grad_() for parameter in random_spline())
    for inverse in (False, True):
        outputs, log_derivative = rational_quadratic_spline(inputs, *parameters, bound=5.0, inverse=inverse)
        for gradient in torch.autograd.grad((outputs + log_derivative).sum(), (inputs, *parameters)):
            assert gradient.isfinite().all()


def test_spline_refuses_more_bins_than_fit():
    with pytest.raises(ValueError, match="1001 bins"):
        rational_quadratic_spline(torch.zeros(200), *random_spline(1001), bound=5.0)
