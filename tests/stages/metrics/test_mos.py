import math
import subprocess
import sys

import numpy as np
import pytest

from stages.common.errors import PipelineError
from stages.metrics.mos import MosPredictor


@pytest.fixture(scope="module")
def predict_mos():
    return MosPredictor()


def test_noise_lowers_the_score_of_real_speech(predict_mos, real_clip):
    clip = real_clip("agent-alreadyon")
    noisy = clip + 0.03 * np.random.default_rng(0).standard_normal(len(clip)).astype(np.float32)
    clean_score, noisy_score = predict_mos(clip, 16000), predict_mos(noisy, 16000)
    assert 1 <= noisy_score < clean_score - 0.5 and clean_score <= 5
    assert predict_mos(clip, 16000) == clean_score


@pytest.mark.parametrize("waveform", [np.zeros(16000), np.zeros(0), np.full(16000, np.nan)])
def test_what_is_no_sound_has_no_score(predict_mos, waveform):
    assert math.isnan(predict_mos(waveform.astype(np.float32), 16000))


def test_the_torchaudio_placeholder_is_removed():
    code = (
        "import sys; from stages.metrics.mos import MosPredictor; MosPredictor(); sys.exit('torchaudio' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "distillmos", None)
    with pytest.raises(PipelineError, match="pip install --no-deps distillmos"):
        MosPredictor()
