"""Averages of weights: exact on constructed cases, and never of different networks."""

from __future__ import annotations

import pytest
import torch

from model.training.weight_average import average_weights


def test_the_mean_is_exact_where_single_precision_sums_are_not() -> None:
    large, small = 2.0**24, 1.0  # 2^24 + 1 is no float32
    states = [
        {"weight": torch.tensor([value, 3.0 * index])}
        for index, value in enumerate([large, small, small, small - large])
    ]
    assert average_weights(states)["weight"].tolist() == [0.75, 4.5]


def test_types_stay_and_what_is_no_floating_point_number_is_the_last_states() -> None:
    states = [
        {"weight": torch.tensor([value], dtype=torch.float16), "count": torch.tensor(count)}
        for value, count in ((1.0, 3), (2.0, 8))
    ]
    average = average_weights(states)
    assert average["weight"].dtype == torch.float16 and average["weight"].item() == 1.5
    assert average["count"].dtype == torch.int64 and average["count"].item() == 8


def test_states_are_taken_one_by_one_and_left_as_they_were() -> None:
    states = [{"weight": torch.full((3,), float(value))} for value in (1, 3)]
    assert torch.equal(average_weights(iter(states))["weight"], torch.full((3,), 2.0))
    assert [state["weight"].tolist() for state in states] == [[1.0] * 3, [3.0] * 3]


def test_the_mean_of_equal_weights_is_these_weights() -> None:
    weights = {"weight": torch.randn(1000, generator=torch.Generator().manual_seed(1))}
    assert torch.equal(average_weights([weights] * 3)["weight"], weights["weight"])


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"weight": torch.zeros(3, 2)}, r"weight \(2×3, then 3×2\)"),
        ({}, r"weight \(2×3, then missing\)"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(())}, r"bias \(missing, then a number\)"),
    ],
)
def test_weights_of_different_networks_are_refused_by_name(other: dict[str, torch.Tensor], difference: str) -> None:
    with pytest.raises(ValueError, match=rf"1 tensors differ, such as {difference}"):
        average_weights([{"weight": torch.zeros(2, 3)}, other])


def test_no_weights_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no weights to average"):
        average_weights([])
