"""Shapes of the networks: frozen dataclasses that travel inside checkpoints.

The defaults are the full-size configuration; smaller models of the same family differ in numbers alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

FLOWS = ("transformer", "residual")
DECODERS = ("hifigan", "istft", "source_filter")
PITCH_ROWS = 2  # log-pitch and voicing: the last rows of what the source-filter decoder reads
RESBLOCKS = ("1", "2")
MAX_DILATION_FRAMES = 4096  # a layer that looks further sees nothing but padding, and padding costs memory

Config = TypeVar("Config", "ModelConfig", "DiscriminatorConfig")


class ConfigError(ValueError):
    """A configuration that no network can be built from; the message holds the numbers and the remedy."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that determines the generator's parameters and shapes."""

    n_symbols: int = 112
    n_tones: int = 11
    n_languages: int = 3
    n_speakers: int = 1  # 0: no speaker embedding
    speaker_channels: int = 256  # 0 when there is no speaker embedding
    use_reference_encoder: bool = False  # speaker vector from the spectrogram instead of a table; n_speakers is 0
    bert_channels: Mapping[str, int] = field(default_factory=lambda: {"ZH": 1024, "JP": 768})

    spectrogram_channels: int = 1025  # posterior input: n_fft // 2 + 1, or the number of mel bands
    inter_channels: int = 192
    hidden_channels: int = 192
    filter_channels: int = 768
    n_heads: int = 2
    n_layers: int = 6
    kernel_size: int = 3
    dropout: float = 0.1
    attention_window: int = 4  # relative positions up to this distance have their own embedding
    speaker_layer_index: int = 2  # the speaker vector joins the text encoder before this layer; -1: never

    frame_prior_layers: int = 0  # blocks that refine the prior within phones; needs durations from an aligner
    frame_prior_channels: int = 192

    flow: str = "transformer"
    n_flows: int = 4
    flow_layers: int = 6
    flow_kernel_size: int = 5
    share_flow_parameters: bool = False

    posterior_layers: int = 16
    posterior_kernel_size: int = 5
    posterior_dilation_rate: int = 1

    use_sdp: bool = True
    sdp_channels: int = 192
    sdp_flows: int = 4
    duration_channels: int = 256
    duration_dropout: float = 0.5
    noise_scaled: bool = True  # alignment search on scores with annealed noise

    decoder: str = "hifigan"
    resblock: str = "1"
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2, 2)
    upsample_initial_channels: int = 512
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 8, 2, 2)
    istft_channels: int = 256
    istft_layers: int = 6
    istft_filter_channels: int = 768
    istft_n_fft: int = 2048
    hop_samples: int = 512
    segment_frames: int = 32
    sample_rate_hz: int = 44100  # this and the bands of the mels matter to the source-filter decoder alone
    mel_fmin_hz: float = 0.0
    mel_fmax_hz: float = 0.0  # 0: half the sample rate

    @property
    def effective_speaker_channels(self) -> int:
        """Width of the speaker vector that the networks are conditioned on; 0 when there is none."""
        return self.speaker_channels if self.n_speakers > 0 or self.use_reference_encoder else 0

    @property
    def latent_follows_mels(self) -> bool:
        """Whether the latent starts as log-mels and pitch, which the source-filter decoder knows how to shape."""
        return self.decoder == "source_filter"

    def validate(self) -> ModelConfig:
        """Return the configuration itself; raise ConfigError listing every problem it has."""
        problems = [
            *_positive(
                self,
                (
                    "n_symbols",
                    "n_tones",
                    "n_languages",
                    "spectrogram_channels",
                    "inter_channels",
                    "hidden_channels",
                    "filter_channels",
                    "n_heads",
                    "n_layers",
                    "kernel_size",
                    "n_flows",
                    "flow_layers",
                    "flow_kernel_size",
                    "posterior_layers",
                    "posterior_kernel_size",
                    "posterior_dilation_rate",
                    "duration_channels",
                    "hop_samples",
                    "segment_frames",
                ),
            ),
            *self._speaker_problems(),
            *self._network_problems(),
            *self._decoder_problems(),
        ]
        if problems:
            raise ConfigError("model config: " + "; ".join(problems))
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values; `from_dict` reverses it."""
        return _to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Build and validate; raise ConfigError on unknown keys, wrong types or impossible shapes."""
        return _from_dict(cls, values).validate()

    def _speaker_problems(self) -> list[str]:
        problems = []
        if self.n_speakers < 0:
            problems.append(f"n_speakers is {self.n_speakers}; use 0 for no speakers")
        if self.n_speakers > 0 and self.use_reference_encoder:
            problems.append(f"use_reference_encoder needs n_speakers 0, found {self.n_speakers}")
        if (self.n_speakers > 0 or self.use_reference_encoder) and self.speaker_channels < 1:
            problems.append(
                f"n_speakers is {self.n_speakers} but speaker_channels {self.speaker_channels}; "
                "give the speaker vector a positive width"
            )
        if self.n_speakers == 0 and not self.use_reference_encoder and self.speaker_channels != 0:
            problems.append(f"n_speakers is 0 but speaker_channels {self.speaker_channels}; set speaker_channels to 0")
        if not -1 <= self.speaker_layer_index < self.n_layers:
            problems.append(
                f"speaker_layer_index {self.speaker_layer_index} is not one of the {self.n_layers} layers; "
                f"use 0 to {self.n_layers - 1}, or -1 for none"
            )
        problems += [
            f"bert_channels[{language!r}] is {size}; it must be positive, or leave the language out"
            for language, size in self.bert_channels.items()
            if size < 1
        ]
        problems += [
            f"bert_channels has a language {language!r}; use a code of capital letters and digits, such as EN"
            for language in self.bert_channels
            if not re.fullmatch(r"[A-Z][A-Z0-9_-]*", language)
        ]
        return problems

    def _network_problems(self) -> list[str]:
        problems = []
        if self.n_heads > 0 and self.hidden_channels > 0 and self.hidden_channels % self.n_heads:
            fitting = max(
                heads
                for heads in range(1, min(self.n_heads, self.hidden_channels) + 1)
                if self.hidden_channels % heads == 0
            )
            problems.append(
                f"n_heads {self.n_heads} does not divide hidden_channels {self.hidden_channels}; use {fitting}, say"
            )
        if self.inter_channels % 2:
            problems.append(
                f"inter_channels {self.inter_channels} is odd; the flow splits it in halves, use an even number"
            )
        if self.frame_prior_layers < 0 or self.frame_prior_channels < 1:
            problems.append(
                f"frame_prior_layers {self.frame_prior_layers} and frame_prior_channels "
                f"{self.frame_prior_channels}: use 0 layers for none, and positive channels"
            )
        if self.attention_window < 0:
            problems.append(f"attention_window {self.attention_window} is negative; use 0 for the own position alone")
        wavenet_kernels = ("posterior_kernel_size", *(["flow_kernel_size"] if self.flow == "residual" else []))
        for name in wavenet_kernels:  # transformers pad an even kernel unevenly
            if getattr(self, name) % 2 == 0:
                problems.append(f"{name} {getattr(self, name)} is even; use an odd one, which keeps lengths")
        if self.posterior_dilation_rate > 1 and (self.posterior_layers - 1) * math.log(
            self.posterior_dilation_rate
        ) > math.log(MAX_DILATION_FRAMES):
            problems.append(
                f"posterior_dilation_rate {self.posterior_dilation_rate} over posterior_layers {self.posterior_layers} spreads the "
                f"last kernel over more than {MAX_DILATION_FRAMES} frames; use a rate of 1 or fewer layers"
            )
        for name in ("dropout", "duration_dropout"):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f"{name} {getattr(self, name)} is outside [0, 1)")
        if self.flow not in FLOWS:
            problems.append(f"flow {self.flow!r} is not one of {', '.join(FLOWS)}")
        if self.use_sdp and (self.sdp_channels < 1 or self.sdp_flows < 1):
            problems.append(
                f"use_sdp needs positive sdp_channels and sdp_flows, found {self.sdp_channels} and {self.sdp_flows}"
            )
        return problems

    def _decoder_problems(self) -> list[str]:
        if self.decoder in ("istft", "source_filter"):
            problems = _positive(
                self, ("istft_channels", "istft_layers", "istft_filter_channels", "istft_n_fft", "sample_rate_hz")
            )
            if self.latent_follows_mels and self.inter_channels != self.spectrogram_channels:
                problems.append(
                    f"inter_channels {self.inter_channels} is not {self.spectrogram_channels}, the mel bands and {PITCH_ROWS} rows "
                    "of pitch that the source-filter decoder's latent follows; make them equal"
                )
            # Below twofold overlap, or with a window of two samples, the window's ends could not be divided out.
            smallest = max(4, 2 * self.hop_samples)
            if 0 < self.istft_n_fft < smallest or self.istft_n_fft % 2:
                problems.append(
                    f"istft_n_fft {self.istft_n_fft} does not fit hop_samples {self.hop_samples}; use an even number of at "
                    f"least {smallest}"
                )
            return problems
        if self.decoder != "hifigan":
            return [f"decoder {self.decoder!r} is not one of {', '.join(DECODERS)}"]
        problems = [*_positive(self, ("upsample_initial_channels",)), *self._resblock_problems()]
        if any(rate < 1 for rate in self.upsample_rates):
            problems.append(f"upsample_rates {self.upsample_rates} must all be positive")
        if self.resblock not in RESBLOCKS:
            problems.append(f"resblock {self.resblock!r} is not one of {', '.join(RESBLOCKS)}")
        if (product := math.prod(self.upsample_rates)) != self.hop_samples:
            problems.append(
                f"hop_samples {self.hop_samples} is not the product of upsample_rates "
                f"{self.upsample_rates} ({product}); change one of them"
            )
        if len(self.upsample_rates) != len(self.upsample_kernel_sizes):
            problems.append(
                f"{len(self.upsample_rates)} upsample_rates but {len(self.upsample_kernel_sizes)} "
                "upsample_kernel_sizes; give one kernel per rate"
            )
        for rate, kernel_size in zip(self.upsample_rates, self.upsample_kernel_sizes, strict=False):
            if kernel_size < rate or (kernel_size - rate) % 2:
                problems.append(
                    f"upsample kernel {kernel_size} does not fit rate {rate}; use the rate plus an even number"
                )
        if self.upsample_initial_channels % (2 ** len(self.upsample_rates)):
            problems.append(
                f"upsample_initial_channels {self.upsample_initial_channels} cannot be halved "
                f"{len(self.upsample_rates)} times; use a multiple of {2 ** len(self.upsample_rates)}"
            )
        return problems

    def _resblock_problems(self) -> list[str]:
        kernels, dilations = self.resblock_kernel_sizes, self.resblock_dilation_sizes
        problems = []
        if not kernels:
            problems.append("resblock_kernel_sizes is empty; give at least one kernel")
        if len(kernels) != len(dilations):
            problems.append(
                f"{len(kernels)} resblock_kernel_sizes but {len(dilations)} resblock_dilation_sizes; give one list per kernel"
            )
        problems += [
            f"resblock kernel {size} must be odd and positive, to keep lengths"
            for size in kernels
            if size < 1 or size % 2 == 0
        ]
        problems += [
            f"resblock dilations {each} must be positive, and at least one"
            for each in dilations
            if not each or min(each) < 1
        ]
        return problems


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Everything that determines the discriminators' parameters and shapes."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    use_scale: bool = True
    channels: int = 32  # base width: the period discriminators' first layer
    max_channels: int = 1024
    use_duration_discriminator: bool = True
    duration_channels: int = 192

    def validate(self) -> DiscriminatorConfig:
        """Return the configuration itself; raise ConfigError listing every problem it has."""
        problems = _positive(self, ("channels", "max_channels"))
        if self.use_duration_discriminator:
            problems += _positive(self, ("duration_channels",))
        if not self.periods and not self.use_scale:
            problems.append("periods is empty and use_scale is off; keep at least one discriminator")
        if any(period < 1 for period in self.periods):
            problems.append(f"periods {self.periods} must be positive")
        if self.max_channels < self.channels:
            problems.append(f"max_channels {self.max_channels} is below channels {self.channels}; raise it")
        if problems:
            raise ConfigError("discriminator config: " + "; ".join(problems))
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values; `from_dict` reverses it."""
        return _to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DiscriminatorConfig:
        """Build and validate; raise ConfigError on unknown keys, wrong types or impossible shapes."""
        return _from_dict(cls, values).validate()


def _positive(config: object, names: tuple[str, ...]) -> list[str]:
    return [f"{name} is {getattr(config, name)}; it must be positive" for name in names if getattr(config, name) < 1]


def _to_dict(config: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return {name: plain(value) for name, value in asdict(config).items()}


def _from_dict(cls: type[Config], values: Mapping[str, Any]) -> Config:
    valid = {entry.name: str(entry.type) for entry in fields(cls)}
    problems, typed = [], {}
    if unknown := sorted(set(values) - set(valid)):
        problems.append(f"unknown keys {', '.join(unknown)}; valid ones: {', '.join(valid)}")
    for name in (name for name in values if name in valid):
        try:
            typed[name] = _coerce(name, valid[name], values[name])
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(f"{cls.__name__}: {'; '.join(problems)}")
    return cls(**typed)


def _coerce(name: str, annotation: str, value: Any) -> Any:
    """JSON and YAML have no tuples and no strict line between 1 and 1.0: the declared type settles both."""
    integer = isinstance(value, int) and not isinstance(value, bool)
    if (annotation == "int" and integer) or (annotation in ("bool", "str") and type(value).__name__ == annotation):
        return value
    if annotation == "float" and (integer or isinstance(value, float)):
        return float(value)
    if annotation.startswith("Mapping") and isinstance(value, Mapping):
        return {str(key): _coerce(f"{name}[{key!r}]", "int", item) for key, item in value.items()}
    if annotation.startswith("tuple[") and isinstance(value, (list, tuple)):
        inner = annotation.removeprefix("tuple[").removesuffix(", ...]")
        return tuple(_coerce(f"{name}[{index}]", inner, item) for index, item in enumerate(value))
    raise ConfigError(f"{name} must be {annotation}, found {value!r}")
