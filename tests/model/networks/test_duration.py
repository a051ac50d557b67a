"""Duration predictors."""

import torch

from model.networks.duration import DurationPredictor, StochasticDurationPredictor


def build_stochastic(n_couplings: int = 2) -> StochasticDurationPredictor:
    predictor = StochasticDurationPredictor(
        channels=8, hidden_channels=12, kernel_size=3, dropout=0.0, n_couplings=n_couplings
    ).eval()
    for coupling in (*predictor.flow.couplings, *predictor.posterior_flow.couplings):
        torch.nn.init.normal_(coupling.projection.weight, std=0.3)
    return predictor


def test_sampling_inverts_the_likelihood_flow():
    flow = build_stochastic(3).flow.double()
    inputs, mask, condition = (
        torch.randn(2, 2, 5).double(),
        torch.ones(2, 1, 5).double(),
        torch.randn(2, 12, 5).double(),
    )
    outputs, _ = flow(inputs, mask, condition)
    assert (outputs - inputs).abs().max() > 0.1
    # The auxiliary channel differs, because sampling leaves out the coupling that only moves it.
    torch.testing.assert_close(flow.sample(outputs, mask, condition)[:, 0], inputs[:, 0])


def test_flow_determinant_is_the_one_of_its_jacobian():
    flow = build_stochastic().flow.double()
    inputs, mask = torch.randn(1, 2, 3, dtype=torch.float64), torch.ones(1, 1, 3, dtype=torch.float64)
    condition = torch.randn(1, 12, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda values: flow(values, mask, condition)[0], inputs)
    expected = torch.linalg.slogdet(jacobian.reshape(6, 6)).logabsdet
    torch.testing.assert_close(flow(inputs, mask, condition)[1][0], expected)


def test_predictors_leave_the_text_encoder_alone():
    hidden = torch.randn(1, 8, 5, requires_grad=True)
    mask, durations = torch.ones(1, 1, 5), torch.full((1, 1, 5), 3.0)
    plain = DurationPredictor(channels=8, filter_channels=16, kernel_size=3, dropout=0.0)
    stochastic = build_stochastic()
    (plain(hidden, mask).sum() + stochastic(hidden, mask, durations).sum()).backward()
    assert hidden.grad is None
    assert all(parameter.grad is not None for parameter in stochastic.parameters())


def test_padding_adds_nothing_to_the_likelihood():
    predictor = build_stochastic()
    hidden, durations, mask = torch.randn(1, 8, 6), torch.full((1, 1, 6), 3.0), torch.ones(1, 1, 6)
    mask[..., 4:] = 0
    torch.manual_seed(1)
    expected = predictor(hidden, mask, durations * mask)
    torch.manual_seed(1)
    changed = hidden + (1 - mask) * 10
    torch.testing.assert_close(predictor(changed, mask, durations * mask), expected)
    assert (predictor.sample(hidden, mask, noise_scale=0.5)[..., 4:] == 0).all()
