"""Build the decoder that a configuration names."""

from __future__ import annotations

from model.config import ModelConfig
from model.networks.decoders.hifigan import HifiGanDecoder
from model.networks.decoders.istft import IstftDecoder
from model.networks.decoders.source_filter import SourceFilterDecoder


def build_decoder(config: ModelConfig) -> HifiGanDecoder | IstftDecoder | SourceFilterDecoder:
    """The decoder that `config.decoder` names."""
    if config.decoder == "source_filter":
        return SourceFilterDecoder(config)
    return IstftDecoder(config) if config.decoder == "istft" else HifiGanDecoder(config)
