"""What the train stage is told: parameters, folders, and the networks' shapes worked out from both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from model.audio.settings import SpectrogramSettings
from model.config import PITCH_ROWS, DiscriminatorConfig, ModelConfig
from model.settings import ConfigError, NonNegativeInt, PositiveFloat, PositiveInt, Settings
from model.text.symbols import SymbolTable
from model.training.config import TrainingConfig
from model.training.fit import check_training_fit
from stages.common.errors import ParamsError
from stages.train.base_voice import BaseVoiceParams
from stages.train.manifest_source import CorpusFacts, DataFolders

SpokenMetric = Literal["mcd_db", "f0_rmse_cents", "voicing_error", "duration_error"]
ValidationValue = Literal["mel", "kl", "duration", "mcd", SpokenMetric]
SPOKEN_METRICS: tuple[str, ...] = get_args(SpokenMetric)
VOICES = ("last", "best", "average")


@dataclass(frozen=True)
class AlignerParams(Settings):
    """The small aligner that gives durations before the main training; `steps: 0` leaves alignment to the model."""

    steps: NonNegativeInt
    batch_size: PositiveInt
    max_batch_frames: PositiveInt
    learning_rate: PositiveFloat
    channels: PositiveInt


@dataclass(frozen=True)
class BudgetParams(Settings):
    """When a run ends before its last step, null for never: after so many `epochs`, or `minutes` in the training loop.

    Minutes add up over interruptions. They are the one thing that makes a run's end depend on the machine: the same
    run does not give the same bits again.
    """

    epochs: PositiveInt | None = None
    minutes: PositiveFloat | None = None


@dataclass(frozen=True)
class KeepParams(Settings):
    """Which validated weights are kept beside the voice: the `last` ones, and the `best` ones by a validation value.

    The voice itself counts: `last: 1` keeps nothing beside it. The extra ones hold the synthesizer alone. `average` is
    over how many of the last validated weights a mean is taken, kept and measured at the end; 0 is none. A voice that
    is the average is none of the `last`, which then all lie beside it.
    """

    last: PositiveInt = 1
    best: NonNegativeInt = 1
    by: ValidationValue = "mel"
    average: NonNegativeInt = 0

    def _conflicts(self) -> Iterator[str]:
        if self.average == 1:
            yield "average is 1; it must be at least 2, or 0 for none"


@dataclass(frozen=True)
class MetricsParams(Settings):
    """When `utterances` of the validation set are spoken from their text, in the voice's own style, and compared with
    their recordings.

    `every` counts validations; 0 is never, otherwise the last validation is always measured.
    """

    every: NonNegativeInt = 0
    utterances: PositiveInt = 16

    def due(self, validation: int, *, last: bool) -> bool:
        """Return whether a run's `validation`-th validation, counted from 1, is measured."""
        return self.every > 0 and (last or validation % self.every == 0)


@dataclass(frozen=True)
class SamplesParams(Settings):
    """Interval in steps at which the first `utterances` of the validation set are spoken and drawn; 0: never."""

    every: NonNegativeInt = 0
    utterances: PositiveInt = 2


@dataclass(frozen=True)
class TrainParams(Settings):
    """Everything that can change the trained weights. `posterior_input` is what the posterior encoder reads.

    `ranks` processes share each step (ignored under torchrun, whose world size counts), with `threads_per_rank`
    threads each: both change the order of summation, so both are parameters. `voice` is which of the kept weights
    become the voice: the last, the best by `keep.by`, the average of the last `keep.average`, or those of a step; it
    alone changes no weights. `freeze` names parts of the synthesizer that stay as they are.
    """

    ranks: PositiveInt
    threads_per_rank: PositiveInt
    add_blank: bool
    posterior_input: Literal["mel", "linear"]
    log_every: PositiveInt
    validate_every: PositiveInt
    checkpoint_every: PositiveInt
    aligner: AlignerParams
    optimisation: TrainingConfig
    model: dict[str, Any]
    discriminator: dict[str, Any]
    voice: str | int = "last"
    reference_quirks: bool = False
    freeze: tuple[str, ...] = ()
    budget: BudgetParams = field(default_factory=BudgetParams)
    keep: KeepParams = field(default_factory=KeepParams)
    samples: SamplesParams = field(default_factory=SamplesParams)
    metrics: MetricsParams = field(default_factory=MetricsParams)
    base_voice: BaseVoiceParams = field(default_factory=BaseVoiceParams)

    def _conflicts(self) -> Iterator[str]:
        if isinstance(self.voice, int):
            if not 1 <= self.voice <= self.optimisation.steps:
                yield f"voice is step {self.voice}, but optimisation.steps is {self.optimisation.steps}"
        elif self.voice not in VOICES:
            yield f"voice {self.voice!r} is not one of {', '.join(VOICES)}, nor a step"
        if self.voice == "best" and self.keep.best < 1:
            yield "voice is best, but keep.best is 0; set keep.best to 1"
        if self.voice == "average" and not self.keep.average:
            yield "voice is average, but keep.average is 0; set keep.average to 3, say"
        if (self.keep.best or self.keep.average) and self.keep.by in SPOKEN_METRICS and not self.metrics.every:
            yield f"keep.by is {self.keep.by}, which is not measured; set metrics.every to 1"

    def _spectrogram_channels(self, settings: SpectrogramSettings) -> int:
        if self.model.get("decoder") == "source_filter":
            if self.posterior_input != "mel":
                raise ParamsError(
                    "params.yaml: train.posterior_input is linear, but the source_filter decoder's latent follows "
                    "the mels; "
                    "set it to mel"
                )
            return settings.n_mels + PITCH_ROWS
        return settings.n_mels if self.posterior_input == "mel" else settings.n_frequencies

    def networks(self, facts: CorpusFacts, symbols: SymbolTable) -> tuple[ModelConfig, DiscriminatorConfig]:
        """Return the networks' configurations; what the data decides (symbols, speakers, sizes) is filled in."""
        speaker_channels = self.model.get("speaker_channels", 0)
        if not speaker_channels and len(facts.speakers) > 1:
            raise ParamsError(
                f"params.yaml: train.model.speaker_channels is 0, but the corpus has {len(facts.speakers)} speakers; "
                "set it to 256, say"
            )
        settings = facts.spectrogram
        derived = {
            "n_symbols": len(symbols.symbols),
            "n_tones": symbols.tone_count,
            "n_languages": len(symbols.languages),
            "n_speakers": len(facts.speakers) if speaker_channels else 0,
            "bert_channels": dict(facts.bert_channels),
            "spectrogram_channels": self._spectrogram_channels(settings),
            "sample_rate_hz": settings.sample_rate_hz,
            "mel_fmin_hz": settings.mel_fmin_hz,
            "mel_fmax_hz": settings.mel_fmax_hz or 0.0,
            "hop_samples": settings.hop_samples,
        }
        overridden = sorted(set(derived) & set(self.model))
        if overridden:
            raise ParamsError(f"params.yaml: train.model: {', '.join(overridden)} follow from the data; remove them")
        if self.model.get("frame_prior_layers") and not self.aligner.steps:
            raise ParamsError(
                "params.yaml: train.model.frame_prior_layers needs durations: set train.aligner.steps to 600, say, "
                "or the layers to 0"
            )
        try:
            model, discriminator = (
                ModelConfig.from_dict({**self.model, **derived}),
                DiscriminatorConfig.from_dict(self.discriminator),
            )
            check_training_fit(model, discriminator, settings)
            return model, discriminator
        except ConfigError as error:
            raise ParamsError(f"params.yaml: train: {error}") from None


@dataclass(frozen=True)
class TrainPaths:
    """Where the train stage reads and writes; `work` holds the resumable state of exactly this run."""

    data: DataFolders
    voice: Path
    report: Path
    work: Path


def own_style(params: TrainParams, model: ModelConfig) -> dict[str, float]:
    """Return how the voice speaks unless told otherwise: a decoder that learnt from the text's latents gets them as it
    did.
    """
    settings = params.optimisation
    noise = {"noise_scale": settings.decode_prior_noise} if settings.decode_prior_share else {}
    return noise if model.use_sdp else {**noise, "sdp_ratio": 0.0}
