"""Real speech and the recogniser for the tests of measuring and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from stages.metrics.speech_recognition import SpeechRecogniser
from stages.metrics.whisper_model import assemble_whisper
from tests.stages.speech_sounds import Waveform

RECORDINGS = Path(__file__).parents[2] / "data" / "recordings" / "asterisk-en" / "allison"


@pytest.fixture(scope="session")
def real_clip() -> Callable[[str], Waveform]:
    """Decode one of the default corpus's prompts, which `make setup` provides: name → waveform at 16 kHz."""

    def decode(name: str) -> Waveform:
        resampler = av.AudioResampler(format="flt", layout="mono")
        with av.open(str(RECORDINGS / f"{name}.g722"), format="g722") as container:
            frames = [
                part.to_ndarray().ravel() for frame in container.decode(audio=0) for part in resampler.resample(frame)
            ]
        return np.concatenate(frames).astype(np.float32)

    return decode


@pytest.fixture(scope="session")
def whisper_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the assembled recogniser."""
    return tmp_path_factory.mktemp("whisper")


@pytest.fixture(scope="session")
def recognise(whisper_cache: Path) -> SpeechRecogniser:
    """The recogniser as scoring uses it."""
    return SpeechRecogniser(assemble_whisper(whisper_cache))
