"""Monotonic alignment search."""

import itertools

import pytest
import torch

from model.networks.alignment_search import search_durations
from model.networks.masks import durations_to_path


def best_by_enumeration(scores: torch.Tensor) -> float:
    n_frames, n_phones = scores.shape
    totals = []
    for cuts in itertools.combinations(range(1, n_frames), n_phones - 1):
        bounds = (0, *cuts, n_frames)
        totals.append(sum(scores[bounds[phone] : bounds[phone + 1], phone].sum().item() for phone in range(n_phones)))
    return max(totals)


@pytest.mark.parametrize(("n_frames", "n_phones"), [(1, 1), (5, 5), (8, 3), (7, 1), (9, 6)])
def test_path_is_the_best_of_all_monotonic_ones(n_frames, n_phones):
    scores = torch.randn(1, n_frames, n_phones)
    durations = search_durations(scores, torch.tensor([n_frames]), torch.tensor([n_phones]))
    assert durations.sum() == n_frames
    assert (durations >= 1).all()
    found = (durations_to_path(durations, n_frames) * scores).sum().item()
    assert found == pytest.approx(best_by_enumeration(scores[0]), abs=1e-4)


def test_padding_is_never_aligned():
    scores = torch.full((2, 9, 5), 50.0)
    scores[1, :6, :3] = torch.randn(6, 3)
    durations = search_durations(scores, torch.tensor([9, 6]), torch.tensor([5, 3]))
    assert durations.sum(1).tolist() == [9, 6]
    assert durations[1, 3:].tolist() == [0, 0]


def test_fewer_frames_than_phones_is_refused():
    with pytest.raises(ValueError, match="item 1 has 3 frames for 4 phones"):
        search_durations(torch.zeros(2, 6, 4), torch.tensor([6, 3]), torch.tensor([4, 4]))
