"""Does a voice speak faster through its ONNX graphs or in torch?

CPU time per second of speech on one thread, from text to samples, with the networks of the laptop preset. Weights are
random, as speed does not depend on them; texts are real, lengths those of speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench.harness.common import OURS, REFERENCE, Result, cost_result, interleave, use_one_thread
from bench.harness.speech import Clip
from bench.harness.untrained_voice import write_untrained_voice

N_TEXTS = 20
SECONDS = 10.0


def run(clips: Sequence[Clip], scratch: Path) -> list[Result]:
    """Compare onnxruntime with torch (reference)."""
    use_one_thread()
    from model.inference.export_onnx import export_onnx
    from model.inference.onnx_voice import OnnxVoice
    from model.inference.voice import SpeakingStyle, Voice

    write_untrained_voice(scratch / "voice")
    graphs = export_onnx(scratch / "voice", scratch / "onnx")
    ours, reference = OnnxVoice(scratch / "onnx"), Voice(scratch / "voice")
    texts = [clip.text for clip in clips[:: max(len(clips) // N_TEXTS, 1)]][:N_TEXTS]
    style = SpeakingStyle(sdp_ratio=0.0)
    spoken = [[voice.say(text, language="EN", style=style) for text in texts] for voice in (ours, reference)]
    alike = all(np.array_equal(a.durations_frames, b.durations_frames) for a, b in zip(*spoken, strict=True))
    difference = (
        max(float(np.abs(a.samples - b.samples).max()) for a, b in zip(*spoken, strict=True)) if alike else float("nan")
    )
    seconds = sum(len(speech.samples) / speech.sample_rate_hz for speech in spoken[1])

    def speak_all(voice: OnnxVoice | Voice) -> None:
        for text in texts:
            voice.say(text, language="EN", style=style)

    timings = interleave({OURS: partial(speak_all, ours), REFERENCE: partial(speak_all, reference)}, SECONDS, seconds)
    megabytes = sum(path.stat().st_size for path in graphs) / 1e6
    note = (
        f"{len(texts)} texts, {seconds:.0f} s of speech; graphs of {megabytes:.1f} MB; largest difference of a "
        f"sample {difference:.1e}"
    )
    return [cost_result("onnx", timings, unit="CPU ms a second of speech", unit_seconds=1e-3, target=None, note=note)]
