"""What networks hear: kept between runs, never stale, and said where something is missing."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from stages.metrics import perceptual as module
from stages.metrics.dnsmos import DnsMosPredictor
from stages.metrics.noise import speech_shaped_noise
from stages.metrics.perceptual import PerceptualEvaluator, Sound
from stages.metrics.speaker_similarity import SpeakerEncoder, mean_embedding, similarity
from tests.stages.speech_sounds import Waveform

RATE_HZ = 16000


@pytest.fixture
def sound(real_clip: Callable[[str], Waveform]) -> Sound:
    return Sound(real_clip("call-waiting"), RATE_HZ, "EN")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_ROW_STORE", str(tmp_path / "rows"))


def test_a_sound_is_heard_once_and_another_anew(
    whisper_cache: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = Sound(0.5 * sound.waveform, RATE_HZ, "EN")
    first = list(PerceptualEvaluator(whisper_cache, ["mos"]).evaluate([sound, sound]))
    assert repr(first[0]) == repr(first[1]) and "waiting" in first[0].transcript and 1 < first[0].mos < 5
    with caplog.at_level(logging.INFO):
        again = list(PerceptualEvaluator(whisper_cache, ["mos"]).evaluate([other, sound]))
    assert "1 to compute, 1 cached" in caplog.text and repr(again[1]) == repr(first[0])
    with monkeypatch.context() as patch:
        patch.setitem(module.OPTIONAL, "mos", (lambda: pytest.fail("loaded for nothing"), *module.OPTIONAL["mos"][1:]))
        assert repr(next(PerceptualEvaluator(whisper_cache, ["mos"]).evaluate([sound]))) == repr(first[0])
    caplog.clear()
    with caplog.at_level(logging.INFO):
        list(PerceptualEvaluator(whisper_cache, []).evaluate([sound]))
    assert "1 to compute, 0 cached" in caplog.text, "other networks give other results"
    monkeypatch.setattr(module, "code_version", lambda name: "other code")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        list(PerceptualEvaluator(whisper_cache, []).evaluate([sound]))
    assert "1 to compute, 0 cached" in caplog.text, "other code may give other results"


def test_a_missing_package_is_said_and_noted(
    whisper_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_import = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == "resemblyzer":
            raise ModuleNotFoundError(name=name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    found = PerceptualEvaluator(whisper_cache, ["speaker_similarity"])
    assert "skipping speaker_similarity" in caplog.text and "pip install" in found.lineage["speaker_similarity"]["off"]
    assert (
        found.lineage["dnsmos"] == {"off": "not in evaluate.hear"} and len(found.lineage["recogniser"]["sha256"]) == 64
    )


def test_dnsmos_is_the_packages_own_figure(real_clip: Callable[[str], Waveform]) -> None:
    from speechmos import dnsmos

    predict = DnsMosPredictor()
    for name in ("call-waiting", "agent-alreadyon"):
        clip = soxr.resample(real_clip(name), RATE_HZ, RATE_HZ)
        assert predict(clip, RATE_HZ) == pytest.approx(dnsmos.run(np.clip(clip, -1, 1), RATE_HZ)["ovrl_mos"], abs=1e-4)
    assert np.isnan(predict(np.zeros(RATE_HZ, np.float32), RATE_HZ))


def test_a_voice_is_closer_to_itself_than_to_noise(real_clip: Callable[[str], Waveform]) -> None:
    embed = SpeakerEncoder()
    clips = [real_clip(name) for name in ("agent-alreadyon", "agent-incorrect", "call-waiting")]
    speaker = mean_embedding([embed(clip, RATE_HZ) for clip in clips[:2]])
    noise = speech_shaped_noise(clips[2], RATE_HZ, "a")
    assert similarity(embed(clips[2], RATE_HZ), speaker) > 0.7 > 0.6 > similarity(embed(noise, RATE_HZ), speaker)
    assert (
        embed(np.zeros(RATE_HZ, np.float32), RATE_HZ) is None
        and mean_embedding([None]) is None
        and np.isnan(similarity(None, speaker))
    )


def test_noise_has_the_level_of_the_speech_and_is_the_same_for_a_name(real_clip: Callable[[str], Waveform]) -> None:
    clip = real_clip("call-waiting")
    noise = speech_shaped_noise(clip, RATE_HZ, "a")
    assert np.array_equal(noise, speech_shaped_noise(clip, RATE_HZ, "a")) and not np.array_equal(
        noise, speech_shaped_noise(clip, RATE_HZ, "b")
    )
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(np.sqrt(np.mean(clip**2)), rel=0.02)
    assert (
        abs(np.corrcoef(noise, clip)[0, 1]) < 0.1
        and not speech_shaped_noise(np.zeros(9, np.float32), RATE_HZ, "a").any()
    )
