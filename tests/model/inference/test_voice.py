"""A voice speaks in the style it carries, unless it is told otherwise, also from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.inference import say
from model.inference.sentences import SENTENCE_PAUSE_SECONDS
from model.inference.voice import SpeakingStyle, Voice
from tests.model.random_voices import write_small_voice

OWN = {"noise_scale": 0.3, "length_scale": 1.5, "sdp_ratio": 0.0}


def test_a_voice_without_a_style_speaks_as_the_reference(tmp_path: Path) -> None:
    voice = Voice(write_small_voice(tmp_path / "voice"))
    assert voice.style == SpeakingStyle(
        noise_scale=0.6, duration_noise_scale=0.8, sdp_ratio=0.2, length_scale=1.0, seed=0
    )
    assert voice.languages == ("EN", "ZH")


def test_a_voices_own_style_is_how_it_speaks(tmp_path: Path) -> None:
    voice = Voice(write_small_voice(tmp_path / "voice", style=OWN))
    own, plain = voice.say("Hello.", language="EN"), voice.say("Hello.", language="EN", style=SpeakingStyle())
    assert np.array_equal(own.samples, voice.say("Hello.", language="EN", style=SpeakingStyle(**OWN)).samples)
    assert len(own.samples) > len(plain.samples)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([], OWN), (["--noise-scale", "0.9", "--seed", "3"], {**OWN, "noise_scale": 0.9, "seed": 3})],
)
def test_flags_change_the_voices_own_style(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: dict[str, float]
) -> None:
    folder, out = write_small_voice(tmp_path / "voice", style=OWN), tmp_path / "say.wav"
    monkeypatch.setattr(sys, "argv", ["say", "--text", "Hello.", "--voice", str(folder), "--out", str(out), *flags])
    say.main()
    speech = Voice(folder).say("Hello.", language="EN", style=SpeakingStyle(**expected))
    spoken, _ = soundfile.read(out, dtype="float32")
    np.testing.assert_allclose(spoken, np.clip(speech.samples, -1, 1), atol=2 / 32768)


def test_a_long_text_is_spoken_sentence_by_sentence_with_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = write_small_voice(tmp_path / "voice", style=OWN), tmp_path / "say.wav"
    monkeypatch.setattr(sys, "argv", ["say", "--text", "Hello. Good day.", "--voice", str(folder), "--out", str(out)])
    say.main()
    voice = Voice(folder)
    first, second = voice.say("Hello.", language="EN"), voice.say("Good day.", language="EN")
    pause = round(SENTENCE_PAUSE_SECONDS * OWN["length_scale"] * first.sample_rate_hz)
    spoken, _ = soundfile.read(out, dtype="float32")
    expected = np.concatenate([first.samples, np.zeros(pause, np.float32), second.samples])
    np.testing.assert_allclose(spoken, np.clip(expected, -1, 1), atol=2 / 32768)


def test_a_recording_is_aligned_with_its_text_always_the_same(tmp_path: Path) -> None:
    voice = Voice(write_small_voice(tmp_path / "voice"))
    pcm = (np.random.default_rng(0).normal(size=40 * voice.spectrogram.hop_samples) * 1000).astype(np.int16)
    durations = voice.align(pcm, "Hello.", language="EN")
    assert len(durations) == len(voice.say("Hello.", language="EN").phones) and durations.min() >= 1
    assert durations.sum() == len(pcm) // voice.spectrogram.hop_samples and np.array_equal(
        durations, voice.align(pcm, "Hello.", language="EN")
    )
    with pytest.raises(ValueError, match="phones do not fit into"):
        voice.align(pcm[: 4 * voice.spectrogram.hop_samples], "Hello, this is too long.", language="EN")
