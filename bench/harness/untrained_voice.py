"""An untrained voice of the laptop preset, as expensive to run as a trained one."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.params.presets import load_preset

BERT_CHANNELS = 384
FRAMES_A_PHONE = (
    3.0  # of 16 ms, by the bias alone; the other untrained weights about double it, to the length of speech
)


def write_untrained_voice(folder: Path, **metadata: Any) -> Path:
    """Save the voice, with the same weights in every run and further metadata, and return its folder."""
    import torch

    from model.audio.settings import SpectrogramSettings
    from model.checkpoints.checkpoint import save_checkpoint
    from model.config import PITCH_ROWS, ModelConfig
    from model.synthesizer import Synthesizer
    from model.text.symbols import SymbolTable

    preset: dict[str, Any] = load_preset("laptop").values
    settings = SpectrogramSettings(sample_rate_hz=preset["resample"]["sample_rate_hz"], **preset["spectrogram"])
    symbols = SymbolTable()
    config = ModelConfig.from_dict(
        {
            **preset["train"]["model"],
            "n_symbols": len(symbols.symbols),
            "n_tones": symbols.tone_count,
            "n_languages": len(symbols.languages),
            "n_speakers": 0,
            "bert_channels": {"EN": BERT_CHANNELS},
            "spectrogram_channels": settings.n_mels + PITCH_ROWS,
            "sample_rate_hz": settings.sample_rate_hz,
            "hop_samples": settings.hop_samples,
        }
    )
    torch.manual_seed(0)
    network = Synthesizer(config)
    bias = network.duration_predictor.projection.bias
    assert bias is not None
    torch.nn.init.constant_(bias, math.log(FRAMES_A_PHONE))
    save_checkpoint(
        folder,
        tensors={"synthesizer": network.state_dict()},
        metadata={
            "model": config.to_dict(),
            "spectrogram": asdict(settings),
            "posterior_input": "mel",
            "symbols": symbols.to_dict(),
            "add_blank": preset["train"]["add_blank"],
            "speakers": ["nobody"],
            "encoders": {"EN": dict(preset["bert"]["encoders"]["EN"])},
            "lexicon": {},
            **metadata,
        },
    )
    return folder
