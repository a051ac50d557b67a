"""Which part of a recording stays when silence is cut off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import soxr

from stages.audio import decode as audio
from stages.resample.trimming import energy_span, speech_span
from tests.small_corpus import RECORDINGS

RATE_HZ = 16000


def padded(
    before_seconds: float, after_seconds: float, rate_hz: int = RATE_HZ
) -> tuple[npt.NDArray[np.float32], int, int]:
    """Return a tone of a second between quiet noise, and where it starts and ends."""
    samples = (
        np.random.default_rng(1).normal(0, 1e-4, int((before_seconds + 1 + after_seconds) * rate_hz)).astype(np.float32)
    )
    start, end = int(before_seconds * rate_hz), int((before_seconds + 1) * rate_hz)
    samples[start:end] += (0.3 * np.sin(np.arange(end - start) * 2 * np.pi * 200 / rate_hz)).astype(np.float32)
    return samples, start, end


@pytest.mark.parametrize("rate_hz", [4000, 16000, 44100])
def test_energy_keeps_the_sound_and_its_margin(rate_hz: int) -> None:
    samples, start, end = padded(0.5, 0.8, rate_hz)
    span = energy_span(samples, rate_hz, 40.0, 0.1)
    assert span is not None
    assert (
        abs(span[0] - (start - 0.1 * rate_hz)) <= 0.011 * rate_hz
        and abs(span[1] - (end + 0.1 * rate_hz)) <= 0.011 * rate_hz
    )


def test_a_margin_never_reaches_beyond_the_recording() -> None:
    samples, _, _ = padded(0.05, 0.02)
    assert energy_span(samples, RATE_HZ, 40.0, 0.5) == (0, len(samples))


def test_silence_keeps_nothing() -> None:
    assert energy_span(np.zeros(1000, np.float32), RATE_HZ, 40.0, 0.1) is None
    assert speech_span(np.random.default_rng(2).normal(0, 1e-3, RATE_HZ).astype(np.float32), RATE_HZ, 0.1) is None


@pytest.mark.parametrize("rate_hz", [16000, 22050])
def test_speech_is_kept_and_a_loud_hum_before_it_is_not(rate_hz: int) -> None:
    spoken = audio.decode((RECORDINGS / "allison" / "conf-full.g722").read_bytes(), ".g722").samples[:, 0]
    hum = (0.2 * np.sin(np.arange(2 * RATE_HZ) * 2 * np.pi * 50 / RATE_HZ)).astype(np.float32)
    samples = soxr.resample(np.concatenate([hum, spoken]), RATE_HZ, rate_hz).astype(np.float32)
    alone, after_hum = speech_span(spoken, RATE_HZ, 0.0), speech_span(samples, rate_hz, 0.0)
    assert alone is not None and after_hum is not None
    assert after_hum[0] / rate_hz == pytest.approx(2 + alone[0] / RATE_HZ, abs=0.15)
    assert after_hum[1] / rate_hz == pytest.approx(2 + alone[1] / RATE_HZ, abs=0.15)
    assert energy_span(samples, rate_hz, 40.0, 0.0)[0] == 0  # type: ignore[index]
