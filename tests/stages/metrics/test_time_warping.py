import librosa
import numpy as np
import pytest

from stages.metrics.time_warping import dynamic_time_warping


def test_a_sequence_with_repeated_frames_is_matched_to_its_source():
    source = np.array([[0.0], [5.0], [9.0], [2.0]])
    repeats = np.array([0, 0, 1, 2, 2, 2, 3])
    first, second = dynamic_time_warping(source, source[repeats])
    assert first.tolist() == repeats.tolist()
    assert second.tolist() == list(range(7))


@pytest.mark.parametrize("lengths", [(1, 1), (1, 6), (6, 1), (17, 23), (40, 12)])
def test_the_path_costs_what_librosas_does(lengths):
    generator = np.random.default_rng(3)
    left, right = (generator.standard_normal((length, 4)) for length in lengths)
    first, second = dynamic_time_warping(left, right)
    cost = np.linalg.norm(left[first] - right[second], axis=1).sum()
    expected = librosa.sequence.dtw(left.T, right.T, metric="euclidean", backtrack=False)[-1, -1]
    assert cost == pytest.approx(expected)
    assert (first[0], second[0]) == (0, 0) and (first[-1], second[-1]) == (lengths[0] - 1, lengths[1] - 1)
    steps = np.stack([np.diff(first), np.diff(second)])
    assert steps.size == 0 or (steps.min() >= 0 and steps.max() <= 1 and steps.sum(axis=0).min() >= 1)


def test_an_empty_side_is_refused():
    with pytest.raises(ValueError, match="between 0 and 3 frames"):
        dynamic_time_warping(np.zeros((0, 2)), np.zeros((3, 2)))
