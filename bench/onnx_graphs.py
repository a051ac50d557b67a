"""A voice of the laptop preset spoken through its ONNX graphs beside torch: front end, text features and both graphs, on one thread.

The weights are random, as speed does not depend on them; texts are the corpus's, lengths those of speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from bench.common import OURS, REFERENCE, Result, cost_result, interleave, use_one_thread
from bench.speech import Clip

PRESET = Path(__file__).parents[1] / "presets" / "laptop.yaml"
N_TEXTS = 20
FRAMES_A_PHONE = 6.0  # of 16 ms: about 10 phones a second
BERT_CHANNELS = {"EN": 384}
SECONDS = 10.0


def write_voice(folder: Path) -> None:
    """Save an untrained voice of the laptop preset."""
    import torch

    from model.checkpoint import save_checkpoint
    from model.config import PITCH_ROWS, ModelConfig
    from model.synthesizer import Synthesizer
    from model.text.symbols import SymbolTable

    preset, symbols = yaml.safe_load(PRESET.read_text(encoding="utf-8")), SymbolTable()
    spectrogram = {"mel_fmin_hz": 0.0, "mel_fmax_hz": None, **preset["spectrogram"], "sample_rate_hz": preset["resample"]["sample_rate_hz"]}
    spectrogram.pop("source", None)
    config = ModelConfig(**{
        **preset["train"]["model"], "n_symbols": len(symbols.symbols), "n_tones": symbols.tone_count, "n_languages": len(symbols.languages),
        "n_speakers": 0, "bert_channels": BERT_CHANNELS, "spectrogram_channels": spectrogram["n_mels"] + PITCH_ROWS,
        "sample_rate_hz": spectrogram["sample_rate_hz"], "hop_samples": spectrogram["hop_samples"],
    }).validate()  # fmt: skip
    torch.manual_seed(0)
    network = Synthesizer(config)
    torch.nn.init.constant_(network.duration_predictor.projection.bias, np.log(FRAMES_A_PHONE))
    save_checkpoint(folder, tensors={"synthesizer": network.state_dict()}, metadata={
        "model": config.to_dict(), "spectrogram": spectrogram, "symbols": symbols.to_dict(), "add_blank": preset["train"]["add_blank"],
        "speakers": ["nobody"], "encoders": preset["bert"]["encoders"], "lexicon": {},
    })  # fmt: skip


def onnx(clips: Sequence[Clip], scratch: Path) -> Result:
    """CPU time per second of speech."""
    use_one_thread()
    from model.export_onnx import export_onnx
    from model.onnx_voice import OnnxVoice
    from model.voice import SpeakingStyle, Voice

    write_voice(scratch / "voice")
    graphs = export_onnx(scratch / "voice", scratch / "onnx")
    ours, reference = OnnxVoice(scratch / "onnx"), Voice(scratch / "voice")
    texts = [clip.text for clip in clips[:: max(len(clips) // N_TEXTS, 1)]][:N_TEXTS]
    style = SpeakingStyle(sdp_ratio=0.0)
    spoken = [[voice.say(text, language="EN", style=style) for text in texts] for voice in (ours, reference)]
    alike = all(np.array_equal(a.durations_frames, b.durations_frames) for a, b in zip(*spoken, strict=True))
    difference = max(float(np.abs(a.samples - b.samples).max()) for a, b in zip(*spoken, strict=True)) if alike else float("nan")
    seconds = sum(len(speech.samples) / speech.sample_rate_hz for speech in spoken[1])

    def speak_all(voice: OnnxVoice | Voice) -> None:
        for text in texts:
            voice.say(text, language="EN", style=style)

    timings = interleave({OURS: partial(speak_all, ours), REFERENCE: partial(speak_all, reference)}, SECONDS, seconds)
    megabytes = sum(path.stat().st_size for path in graphs) / 1e6
    note = f"{len(texts)} texts, {seconds:.0f} s of speech; graphs of {megabytes:.1f} MB; largest difference of a sample {difference:.1e}"
    return cost_result("onnx", timings, unit="CPU ms a second of speech", unit_seconds=1e-3, target=None, note=note)
