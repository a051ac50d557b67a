"""A real voice of two speakers and two languages, untrained: it hums, within milliseconds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import save_checkpoint
from model.config import ModelConfig
from model.spectrogram import SpectrogramSettings
from model.synthesizer import Synthesizer
from model.text.symbols import SymbolTable

SETTINGS = SpectrogramSettings(sample_rate_hz=16000, n_fft=512, hop_samples=256, win_samples=512, n_mels=20)


def write_small_voice(folder: Path, **metadata: Any) -> Path:
    """Save the voice with further metadata, and return its folder."""
    symbols = SymbolTable()
    config = ModelConfig(
        n_symbols=len(symbols.symbols), n_tones=symbols.tone_count, n_languages=3, n_speakers=2, speaker_channels=8, speaker_layer_index=0,
        bert_channels={}, spectrogram_channels=20, inter_channels=8, hidden_channels=16, filter_channels=32, n_layers=1, flow="residual",
        n_flows=2, flow_layers=1, posterior_layers=1, use_sdp=False, duration_channels=16, decoder="istft", istft_channels=16,
        istft_layers=1, istft_filter_channels=32, istft_n_fft=512, hop_samples=256, segment_frames=8,
    )  # fmt: skip
    torch.manual_seed(0)
    facts = {
        "model": config.to_dict(), "spectrogram": asdict(SETTINGS), "posterior_input": "mel", "symbols": symbols.to_dict(), "add_blank": False,
        "speakers": ["anna", "ben"], "encoders": {"EN": {"kind": "none"}, "ZH": {"kind": "none"}}, "lexicon": {}, "step": 0,
        "source_note": "nobody",
    }  # fmt: skip
    save_checkpoint(folder, tensors={"synthesizer": Synthesizer(config).state_dict()}, metadata={**facts, **metadata})
    return folder
