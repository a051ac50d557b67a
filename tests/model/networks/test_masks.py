"""Masks, alignments, segments and gradients."""

import math

import torch

from model.networks import masks


def test_gradients_are_only_measured_without_a_limit():
    parameter = torch.zeros(2)
    assert masks.clip_gradients_by_value([parameter], None) == 0.0
    parameter.grad = torch.tensor([3.0, 4.0])
    assert math.isclose(masks.clip_gradients_by_value([parameter], None), 5.0)
    assert parameter.grad.tolist() == [3.0, 4.0]


def test_path_has_each_phones_duration_in_order():
    path = masks.durations_to_path(torch.tensor([[2, 0, 3]]), 7)
    assert path.sum(1).tolist() == [[2, 0, 3]]
    assert path[0].argmax(1)[:5].tolist() == [0, 0, 2, 2, 2]
    assert path[0, 5:].sum() == 0


def test_segments_stay_inside_the_utterance():
    lengths = torch.tensor([9, 4, 2])
    for _ in range(50):
        starts = masks.random_segment_starts(lengths, 4, torch.rand(3))
        assert (starts >= 0).all()
        assert (starts <= (lengths - 4).clamp_min(0)).all()
    drawn = {int(masks.random_segment_starts(torch.tensor([6]), 4, torch.rand(1))) for _ in range(50)}
    assert drawn == {0, 1, 2}


def test_a_segment_beyond_the_end_is_padded_with_zeros():
    whole = masks.slice_segments(torch.ones(1, 2, 3), torch.tensor([0]), 5)
    assert whole[0, 0].tolist() == [1, 1, 1, 0, 0]
    segments = masks.slice_segments(torch.ones(2, 1, 5), torch.tensor([3, 0]), 3)
    assert segments[:, 0].tolist() == [[1, 1, 0], [1, 1, 1]]


def test_segment_gradient_reaches_only_its_frames():
    sequence = torch.zeros(2, 1, 5, requires_grad=True)
    masks.slice_segments(sequence, torch.tensor([1, 3]), 2).sum().backward()
    assert sequence.grad[:, 0].tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]
