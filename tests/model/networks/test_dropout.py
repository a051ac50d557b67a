"""Dropout from 16 random bits per element."""

import pytest
import torch

from model.networks.dropout import Dropout


@pytest.mark.parametrize("probability", [0.05, 0.1, 0.5])
def test_the_share_that_falls_and_the_scale_of_the_rest(probability):
    torch.manual_seed(0)
    found = Dropout(probability)(torch.ones(3, 7, 20_001))
    fallen = float((found == 0).float().mean())
    assert fallen == pytest.approx(probability, abs=0.003)
    assert found.max() == pytest.approx(1 / (1 - probability), rel=1e-4)
    assert found.mean() == pytest.approx(1.0, abs=0.01)
    # Neighbours fall independently: each 64-bit word decides about four of them.
    pairs = (found.flatten()[:-1] == 0) & (found.flatten()[1:] == 0)
    assert float(pairs.float().mean()) == pytest.approx(probability**2, abs=0.003)


def test_gradients_pass_where_values_do():
    inputs = torch.ones(1000, requires_grad=True)
    found = Dropout(0.5)(inputs)
    found.sum().backward()
    assert torch.equal(inputs.grad, found.detach())


def test_masks_follow_torchs_seed():
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(Dropout(0.5)(torch.ones(100)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize(("dropout", "kept"), [(Dropout(0.5).eval(), 1.0), (Dropout(0.0), 1.0), (Dropout(1.0), 0.0)])
def test_nothing_and_everything(dropout, kept):
    assert torch.equal(dropout(torch.ones(10)), torch.full((10,), kept))


def test_other_precisions_keep_theirs():
    found = Dropout(0.5)(torch.ones(10_000, dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert 0.4 < float((found == 0).float().mean()) < 0.6
