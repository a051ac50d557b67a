import numpy as np
import pytest

from tests.stages.speech_sounds import make_rendition


def test_durations_that_do_not_match_the_phones_are_refused_with_both_counts():
    with pytest.raises(ValueError, match="ada/one: 2 synthesis_durations_frames for 5 phones"):
        make_rendition(synthesis_durations_frames=np.array([1, 2]))


def test_a_stereo_waveform_is_refused():
    with pytest.raises(ValueError, match=r"the synthesis has shape \(100, 2\)"):
        make_rendition(synthesis=np.zeros((100, 2), dtype=np.float32))


def test_an_unknown_version_is_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match="recording, resynthesis, synthesis"):
        make_rendition().waveform("original")
