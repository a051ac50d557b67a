"""Mean of several checkpoints' weights, which can be a better voice than any of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def average_weights(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of every floating-point tensor over states of one network, and the last state's other tensors.

    Sums are in float64 on the CPU, rounded once; one state is in memory at a time. Raises ValueError for no state, or
    naming the tensors whose names or shapes differ from the first state's. Source: Izmailov et al. 2018, Averaging
    weights leads to wider optima and better generalization.
    """
    sums: dict[str, Tensor] = {}
    state: Mapping[str, Tensor] = {}
    count = 0
    for state in states:
        if count:
            _check_like(sums, state)
            for name, tensor in state.items():
                sums[name] += tensor.detach().cpu()
        else:
            sums = {name: tensor.detach().cpu().to(torch.float64, copy=True) for name, tensor in state.items()}
        count += 1
    if not count:
        raise ValueError("there are no weights to average")
    return {
        name: (sums[name] / count).to(tensor.dtype) if tensor.is_floating_point() else tensor.detach().cpu().clone()
        for name, tensor in state.items()
    }


def _check_like(first: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    differing = sorted(
        name
        for name in {*first, *other}
        if name not in first or name not in other or first[name].shape != other[name].shape
    )
    if differing:
        shown = "; ".join(f"{name} ({_shape(first, name)}, then {_shape(other, name)})" for name in differing[:3])
        raise ValueError(
            f"weights of different networks cannot be averaged: {len(differing)} tensors differ, such as {shown}"
        )


def _shape(state: Mapping[str, Tensor], name: str) -> str:
    return "×".join(map(str, state[name].shape)) or "a number" if name in state else "missing"
