"""Shapes of the networks: frozen dataclasses that travel inside checkpoints.

The defaults are the full-size configuration; smaller models of the same family differ in numbers alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from model.settings import NonNegativeFloat, NonNegativeInt, PositiveInt, Settings

PITCH_ROWS = 2  # log-pitch and voicing: the last rows of what the source-filter decoder reads
MAX_DILATION_FRAMES = 4096  # a layer that looks further sees nothing but padding, and padding costs memory

Dropout = Annotated[float, Interval(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """Everything that determines the generator's parameters and shapes."""

    n_symbols: PositiveInt = 112
    n_tones: PositiveInt = 11
    n_languages: PositiveInt = 3
    n_speakers: NonNegativeInt = 1  # 0: no speaker embedding
    speaker_channels: NonNegativeInt = 256  # 0 when there is no speaker embedding
    use_reference_encoder: bool = False  # speaker vector from the spectrogram instead of a table; n_speakers is 0
    bert_channels: Mapping[str, PositiveInt] = field(default_factory=lambda: {"ZH": 1024, "JP": 768})

    spectrogram_channels: PositiveInt = 1025  # posterior input: n_fft // 2 + 1, or the number of mel bands
    inter_channels: PositiveInt = 192
    hidden_channels: PositiveInt = 192
    filter_channels: PositiveInt = 768
    n_heads: PositiveInt = 2
    n_layers: PositiveInt = 6
    kernel_size: PositiveInt = 3
    dropout: Dropout = 0.1
    attention_window: NonNegativeInt = 4  # relative positions up to this distance have their own embedding
    speaker_layer_index: int = 2  # the speaker vector joins the text encoder before this layer; -1: never

    frame_prior_layers: NonNegativeInt = 0  # blocks that refine the prior within phones; need an aligner's durations
    frame_prior_channels: PositiveInt = 192

    flow: Literal["transformer", "residual"] = "transformer"
    n_flows: PositiveInt = 4
    flow_layers: PositiveInt = 6
    flow_kernel_size: PositiveInt = 5
    share_flow_parameters: bool = False

    posterior_layers: PositiveInt = 16
    posterior_kernel_size: PositiveInt = 5
    posterior_dilation_rate: PositiveInt = 1

    use_sdp: bool = True
    sdp_channels: PositiveInt = 192
    sdp_flows: PositiveInt = 4
    duration_channels: PositiveInt = 256
    duration_dropout: Dropout = 0.5
    noise_scaled: bool = True  # alignment search on scores with annealed noise

    decoder: Literal["hifigan", "istft", "source_filter"] = "hifigan"
    resblock: Literal["1", "2"] = "1"
    resblock_kernel_sizes: tuple[PositiveInt, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[PositiveInt, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    upsample_rates: tuple[PositiveInt, ...] = (8, 8, 2, 2, 2)
    upsample_initial_channels: PositiveInt = 512
    upsample_kernel_sizes: tuple[PositiveInt, ...] = (16, 16, 8, 2, 2)
    istft_channels: PositiveInt = 256
    istft_layers: PositiveInt = 6
    istft_filter_channels: PositiveInt = 768
    istft_n_fft: PositiveInt = 2048
    hop_samples: PositiveInt = 512
    segment_frames: PositiveInt = 32
    sample_rate_hz: PositiveInt = 44100  # this and the bands of the mels matter to the source-filter decoder alone
    mel_fmin_hz: NonNegativeFloat = 0.0
    mel_fmax_hz: NonNegativeFloat = 0.0  # 0: half the sample rate

    @property
    def effective_speaker_channels(self) -> int:
        """Width of the speaker vector that the networks are conditioned on; 0 when there is none."""
        return self.speaker_channels if self.n_speakers > 0 or self.use_reference_encoder else 0

    @property
    def latent_follows_mels(self) -> bool:
        """Whether the latent starts as log-mels and pitch, which the source-filter decoder knows how to shape."""
        return self.decoder == "source_filter"

    def _conflicts(self) -> Iterator[str]:
        yield from self._speaker_conflicts()
        yield from self._network_conflicts()
        yield from self._istft_conflicts() if self.decoder != "hifigan" else self._hifigan_conflicts()

    def _speaker_conflicts(self) -> Iterator[str]:
        if self.n_speakers and self.use_reference_encoder:
            yield f"use_reference_encoder needs n_speakers 0, found {self.n_speakers}"
        if (self.n_speakers or self.use_reference_encoder) and not self.speaker_channels:
            yield f"n_speakers is {self.n_speakers} but speaker_channels 0; give the speaker vector a positive width"
        if not self.n_speakers and not self.use_reference_encoder and self.speaker_channels:
            yield f"n_speakers is 0 but speaker_channels {self.speaker_channels}; set speaker_channels to 0"
        if not -1 <= self.speaker_layer_index < self.n_layers:
            yield (
                f"speaker_layer_index {self.speaker_layer_index} is not one of the {self.n_layers} layers; "
                f"use 0 to {self.n_layers - 1}, or -1 for none"
            )
        for language in self.bert_channels:
            if not re.fullmatch(r"[A-Z][A-Z0-9_-]*", language):
                yield (
                    f"bert_channels has a language {language!r}; use a code of capital letters and digits, such as EN"
                )

    def _network_conflicts(self) -> Iterator[str]:
        if self.hidden_channels % self.n_heads:
            fitting = next(heads for heads in range(self.n_heads, 0, -1) if self.hidden_channels % heads == 0)
            yield f"n_heads {self.n_heads} does not divide hidden_channels {self.hidden_channels}; use {fitting}, say"
        if self.inter_channels % 2:
            yield f"inter_channels {self.inter_channels} is odd; the flow splits it in halves, use an even number"
        wavenet_kernels = ("posterior_kernel_size", *(["flow_kernel_size"] if self.flow == "residual" else []))
        for name in wavenet_kernels:  # transformers pad an even kernel unevenly
            if getattr(self, name) % 2 == 0:
                yield f"{name} {getattr(self, name)} is even; use an odd one, which keeps lengths"
        spread = (self.posterior_layers - 1) * math.log(self.posterior_dilation_rate)
        if spread > math.log(MAX_DILATION_FRAMES):
            yield (
                f"posterior_dilation_rate {self.posterior_dilation_rate} over posterior_layers {self.posterior_layers} "
                f"spreads the last kernel over more than {MAX_DILATION_FRAMES} frames; use a rate of 1 or fewer layers"
            )

    def _istft_conflicts(self) -> Iterator[str]:
        if self.latent_follows_mels and self.inter_channels != self.spectrogram_channels:
            yield (
                f"inter_channels {self.inter_channels} is not {self.spectrogram_channels}, the mel bands and "
                f"{PITCH_ROWS} rows of pitch that the source-filter decoder's latent follows; make them equal"
            )
        # Below twofold overlap, or with a window of two samples, the window's ends could not be divided out.
        smallest = max(4, 2 * self.hop_samples)
        if self.istft_n_fft < smallest or self.istft_n_fft % 2:
            yield (
                f"istft_n_fft {self.istft_n_fft} does not fit hop_samples {self.hop_samples}; use an even number of at "
                f"least {smallest}"
            )

    def _hifigan_conflicts(self) -> Iterator[str]:
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        if (product := math.prod(rates)) != self.hop_samples:
            yield (
                f"hop_samples {self.hop_samples} is not the product of upsample_rates {rates} ({product}); "
                "change one of them"
            )
        if len(rates) != len(kernels):
            yield f"{len(rates)} upsample_rates but {len(kernels)} upsample_kernel_sizes; give one kernel per rate"
        for rate, size in zip(rates, kernels, strict=False):
            if size < rate or (size - rate) % 2:
                yield f"upsample kernel {size} does not fit rate {rate}; use the rate plus an even number"
        if self.upsample_initial_channels % 2 ** len(rates):
            yield (
                f"upsample_initial_channels {self.upsample_initial_channels} cannot be halved {len(rates)} times; "
                f"use a multiple of {2 ** len(rates)}"
            )
        kernels, dilations = self.resblock_kernel_sizes, self.resblock_dilation_sizes
        if not kernels:
            yield "resblock_kernel_sizes is empty; give at least one kernel"
        if len(kernels) != len(dilations):
            yield (
                f"{len(kernels)} resblock_kernel_sizes but {len(dilations)} resblock_dilation_sizes; "
                "give one list per kernel"
            )
        yield from (f"resblock kernel {size} must be odd, to keep lengths" for size in kernels if size % 2 == 0)
        if not all(dilations):
            yield f"resblock_dilation_sizes {dilations} has an empty list; give at least one dilation"


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig(Settings):
    """Everything that determines the discriminators' parameters and shapes."""

    periods: tuple[PositiveInt, ...] = (2, 3, 5, 7, 11)
    use_scale: bool = True
    channels: PositiveInt = 32  # base width: the period discriminators' first layer
    max_channels: PositiveInt = 1024
    use_duration_discriminator: bool = True
    duration_channels: PositiveInt = 192

    def _conflicts(self) -> Iterator[str]:
        if not self.periods and not self.use_scale:
            yield "periods is empty and use_scale is off; keep at least one discriminator"
        if self.max_channels < self.channels:
            yield f"max_channels {self.max_channels} is below channels {self.channels}; raise it"
