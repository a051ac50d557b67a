"""Untrained voices in a folder, small enough to be exported in seconds: every decoder, duration model, flow and kind of
speaker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.audio.settings import SpectrogramSettings
from model.checkpoints.checkpoint import save_checkpoint
from model.config import ModelConfig
from model.synthesizer import Synthesizer
from model.text.symbols import SymbolTable

SMALL: dict[str, Any] = {
    "hidden_channels": 16,
    "filter_channels": 32,
    "n_heads": 2,
    "n_layers": 1,
    "n_flows": 2,
    "flow_layers": 1,
    "posterior_layers": 1,
    "sdp_channels": 16,
    "sdp_flows": 2,
    "duration_channels": 16,
    "bert_channels": {"EN": 6},
    "sample_rate_hz": 16000,
    "segment_frames": 8,
    "istft_channels": 16,
    "istft_layers": 1,
    "istft_filter_channels": 32,
    "istft_n_fft": 512,
    "hop_samples": 128,
}
ONE_SPEAKER = {"n_speakers": 0, "speaker_channels": 0, "speaker_layer_index": -1}
KINDS: dict[str, dict[str, Any]] = {
    "source_filter": {
        "decoder": "source_filter",
        "inter_channels": 82,
        "spectrogram_channels": 82,
        "use_sdp": False,
        "flow": "residual",
        "frame_prior_layers": 1,
        "frame_prior_channels": 16,
        **ONE_SPEAKER,
    },
    "istft": {
        "decoder": "istft",
        "inter_channels": 8,
        "spectrogram_channels": 80,
        "n_speakers": 2,
        "speaker_channels": 8,
        "speaker_layer_index": 0,
    },
    "hifigan": {
        "decoder": "hifigan",
        "inter_channels": 8,
        "spectrogram_channels": 80,
        "use_sdp": True,
        "flow": "residual",
        "n_speakers": 2,
        "speaker_channels": 8,
        "speaker_layer_index": 0,
        "upsample_initial_channels": 32,
        "upsample_rates": (8, 4, 4),
        "upsample_kernel_sizes": (16, 8, 8),
        "resblock_kernel_sizes": (3, 5),
        "resblock_dilation_sizes": ((1, 3), (1, 3)),
    },
}


def write_random_voice(folder: Path, kind: str, metadata: Mapping[str, Any] | None = None, **changes: Any) -> Path:
    """Save an untrained voice that makes every network felt, with further metadata; `changes` are of the model's
    configuration.
    """
    symbols = SymbolTable()
    config = ModelConfig(
        **{
            **SMALL,
            "n_symbols": len(symbols.symbols),
            "n_tones": symbols.tone_count,
            "n_languages": 3,
            **KINDS[kind],
            **changes,
        }
    )
    torch.manual_seed(0)
    network = Synthesizer(config)
    with torch.no_grad():
        for parameter in network.parameters():  # what training starts at nothing would be nothing in a comparison
            if not parameter.any():
                parameter.normal_(0, 0.1)
    spectrogram = SpectrogramSettings(
        sample_rate_hz=16000, n_fft=512, hop_samples=config.hop_samples, win_samples=512, n_mels=80
    )
    save_checkpoint(
        folder,
        tensors={"synthesizer": network.state_dict()},
        metadata={
            "model": config.to_dict(),
            "spectrogram": dataclasses.asdict(spectrogram),
            "posterior_input": "mel",
            "symbols": symbols.to_dict(),
            "add_blank": False,
            "speakers": ["anna", "ben"][: max(config.n_speakers, 1)],
            "encoders": {"EN": {"kind": "none"}},
            "lexicon": {},
            "source_note": "nobody's voice",
            "lineage": {},
            "step": 0,
            "base_voice": None,
            **(metadata or {}),
        },
    )
    return folder


def write_small_voice(folder: Path, **metadata: Any) -> Path:
    """Save a voice of two speakers and two languages without text features, which hums within milliseconds, with
    further metadata.
    """
    encoders = {language: {"kind": "none"} for language in ("EN", "ZH")}
    return write_random_voice(folder, "istft", {"encoders": encoders, **metadata}, bert_channels={}, hop_samples=256)
