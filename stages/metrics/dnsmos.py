"""DNSMOS P.835: predicted overall quality of noisy speech, 1 bad … 5 excellent.

Reddy et al. 2022, DNSMOS P.835: A non-intrusive perceptual objective speech quality metric to evaluate noise
suppressors. It rates noise and distortion, not naturalness, so it does not replace `mos`. The network comes with the
package speechmos.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.common.errors import PipelineError
from stages.metrics.perceptual_input import SAMPLE_RATE_HZ, to_network_input

WINDOW_SECONDS = 9.01
WINDOW_SAMPLES = int(WINDOW_SECONDS * SAMPLE_RATE_HZ)
# The authors' polynomial from the network's raw overall score to the listeners' scale.
OVERALL = np.poly1d([-0.06766283, 1.11546468, 0.04602535])


class DnsMosPredictor:
    """Predictor of the overall score: the mean over windows of 9 s with a hop of 1 s.

    A shorter clip is repeated until it fills a window.
    """

    def __init__(self) -> None:
        """Load the network. Raises PipelineError if its package is missing."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(weights_file(), options)

    def __call__(self, waveform: npt.NDArray[np.floating], sample_rate_hz: int) -> float:
        """Return the score of a waveform (S,); NaN if it is empty, silent or not finite."""
        samples = to_network_input(waveform, sample_rate_hz, min_seconds=0.0)
        if samples is None:
            return float("nan")
        samples = np.clip(samples, -1.0, 1.0)
        while len(samples) < WINDOW_SAMPLES:
            samples = np.concatenate([samples, samples])
        n_windows = int(len(samples) // SAMPLE_RATE_HZ - WINDOW_SECONDS) + 1
        # As in the package: windows that rounding makes one sample short are dropped.
        windows = [
            samples[None, number * SAMPLE_RATE_HZ : int((number + WINDOW_SECONDS) * SAMPLE_RATE_HZ)]
            for number in range(n_windows)
        ]
        raw = [
            self._session.run(None, {"input_1": window})[0][0][2]
            for window in windows
            if window.shape[1] == WINDOW_SAMPLES
        ]
        return float(np.mean(OVERALL(np.array(raw, dtype=np.float64))))


def weights_file() -> Path:
    """Return the file of the network's weights. Raises PipelineError if its package is missing."""
    try:
        import speechmos
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"DNSMOS needs the package {error.name}: pip install --no-deps speechmos==0.0.1.1, "
            "or remove it from evaluate.hear"
        ) from error
    return Path(speechmos.__file__).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
