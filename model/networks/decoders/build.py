"""Choice of decoder by configuration."""

from __future__ import annotations

from model.config import ModelConfig
from model.networks.decoders.hifigan import HifiGanDecoder
from model.networks.decoders.istft import IstftDecoder
from model.networks.decoders.source_filter import SourceFilterDecoder


def build_decoder(config: ModelConfig) -> HifiGanDecoder | IstftDecoder | SourceFilterDecoder:
    """Return a new decoder of the kind `config.decoder`."""
    if config.decoder == "source_filter":
        return SourceFilterDecoder(config)
    return IstftDecoder(config) if config.decoder == "istft" else HifiGanDecoder(config)
