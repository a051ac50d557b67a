"""Collectives of a training step over torch.distributed: counts, losses and gradients.

Without an initialised process group, or in a group of one, every function is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank() -> int:
    """Return this process's rank."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_single_process() -> bool:
    """Return whether there is only one rank."""
    return not dist.is_initialized() or dist.get_world_size() == 1


def shares(counts: Sequence[int], device: torch.device) -> list[float]:
    """Return this rank's fraction of each count's sum over all ranks (0 if the sum is 0); one small collective."""
    if is_single_process():
        return [1.0] * len(counts)
    totals = torch.tensor(counts, dtype=torch.int64, device=device)
    dist.all_reduce(totals)
    return [count / total if total else 0.0 for count, total in zip(counts, totals.tolist(), strict=True)]


def gather(numbers: Sequence[float], device: torch.device) -> list[float]:
    """Return the numbers of all ranks in rank order; ranks may have different counts."""
    if is_single_process():
        return list(numbers)
    n_ranks = dist.get_world_size()
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(n_ranks)]
    dist.all_gather(sizes, torch.tensor([len(numbers)], device=device))
    longest = max(int(size) for size in sizes)
    parts = [torch.zeros(longest, dtype=torch.float64, device=device) for _ in range(n_ranks)]
    own = torch.zeros(longest, dtype=torch.float64, device=device)
    own[: len(numbers)] = torch.tensor(list(numbers), dtype=torch.float64)
    dist.all_gather(parts, own)
    return [number for part, size in zip(parts, sizes, strict=True) for number in part[: int(size)].tolist()]


def total(values: Tensor) -> Tensor:
    """Return the sum over all ranks of a tensor, which has the same shape on each."""
    if is_single_process():
        return values
    summed = values.detach().clone()
    dist.all_reduce(summed)
    return summed


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their sums over all ranks, in one flat all-reduce.

    A parameter without gradient on some ranks counts as zero there; without gradient on any rank it keeps none, as in
    a single process.
    """
    if is_single_process():
        return
    trained = list(parameters)
    used = torch.tensor([float(each.grad is not None) for each in trained], device=trained[0].device)
    flat = torch.cat(
        [*((torch.zeros_like(each) if each.grad is None else each.grad).reshape(-1) for each in trained), used]
    )
    dist.all_reduce(flat)
    *parts, used = torch.split(flat, [*(each.numel() for each in trained), len(trained)])
    for each, part, n_users in zip(trained, parts, used.tolist(), strict=True):
        if each.grad is not None:
            each.grad.copy_(part.view_as(each))
        elif n_users:
            each.grad = part.view_as(each).clone()
