"""The evaluation speaks in the voice's own style where its parameters say nothing."""

from model.inference.voice import SpeakingStyle
from stages.evaluate.stage import EvaluateParams

OWN = SpeakingStyle(noise_scale=0.1, duration_noise_scale=0.2, sdp_ratio=0.3, length_scale=1.4)


def params(**style: float | None) -> EvaluateParams:
    nothing = dict.fromkeys(("noise_scale", "duration_noise_scale", "sdp_ratio", "length_scale"))
    return EvaluateParams(max_utterances=None, seed=5, hear=(), anchors=1, **{**nothing, **style})


def test_null_is_the_voices_own_and_numbers_replace_it() -> None:
    assert params().style(OWN) == SpeakingStyle(0.1, 0.2, 0.3, 1.4, 5)
    assert params(noise_scale=0.0, length_scale=1.0).style(OWN) == SpeakingStyle(0.0, 0.2, 0.3, 1.0, 5)
