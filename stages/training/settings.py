"""What the train stage is told: parameters, folders, and the networks' shapes worked out from both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import ConfigError, DiscriminatorConfig, ModelConfig
from model.text.symbols import SymbolTable
from model.training import TrainingConfig
from stages.common.errors import ParamsError
from stages.common.training_data import CorpusFacts, DataFolders


@dataclass(frozen=True)
class AlignerParams:
    """The small aligner that gives durations before the main training; `steps: 0` leaves alignment to the model."""

    steps: int
    batch_size: int
    max_batch_frames: int
    learning_rate: float
    channels: int


@dataclass(frozen=True)
class TrainParams:
    """Everything that can change the trained weights. `posterior_input` is what the posterior encoder reads.

    `ranks` processes share each step (ignored under torchrun, whose world size counts), with `threads_per_rank`
    threads each: both change the order of summation, so both are parameters.
    """

    ranks: int
    threads_per_rank: int
    add_blank: bool
    posterior_input: str
    log_every: int
    validate_every: int
    checkpoint_every: int
    aligner: AlignerParams
    optimisation: TrainingConfig
    model: dict[str, Any]
    discriminator: dict[str, Any]

    def __post_init__(self) -> None:
        if self.posterior_input not in ("mel", "linear"):
            raise ValueError(f"posterior_input {self.posterior_input!r} is neither mel nor linear")
        counts = ("ranks", "threads_per_rank", "log_every", "validate_every", "checkpoint_every")
        problems = [f"{name} is {getattr(self, name)}; it must be at least 1" for name in counts if getattr(self, name) < 1]
        if problems:
            raise ValueError("; ".join(problems))

    def networks(self, facts: CorpusFacts, symbols: SymbolTable) -> tuple[ModelConfig, DiscriminatorConfig]:
        """Return the networks' configurations; what the data decides (symbols, speakers, sizes) is filled in."""
        speaker_channels = self.model.get("speaker_channels", 0)
        if not speaker_channels and len(facts.speakers) > 1:
            raise ParamsError(f"params.yaml: train.model.speaker_channels is 0, but the corpus has {len(facts.speakers)} speakers; "
                              "set it to 256, say")  # fmt: skip
        settings = facts.spectrogram
        derived = {
            "n_symbols": len(symbols.symbols), "n_tones": symbols.tone_count, "n_languages": len(symbols.languages),
            "n_speakers": len(facts.speakers) if speaker_channels else 0, "bert_channels": dict(facts.bert_channels),
            "spectrogram_channels": settings.n_mels if self.posterior_input == "mel" else settings.n_frequencies,
            "hop_samples": settings.hop_samples,
        }  # fmt: skip
        overridden = sorted(set(derived) & set(self.model))
        if overridden:
            raise ParamsError(f"params.yaml: train.model: {', '.join(overridden)} follow from the data; remove them")
        if self.model.get("frame_prior_layers") and not self.aligner.steps:
            raise ParamsError("params.yaml: train.model.frame_prior_layers needs durations: set train.aligner.steps to 600, say, "
                              "or the layers to 0")  # fmt: skip
        try:
            return ModelConfig.from_dict({**self.model, **derived}), DiscriminatorConfig.from_dict(self.discriminator)
        except ConfigError as error:
            raise ParamsError(f"params.yaml: train: {error}") from None


@dataclass(frozen=True)
class TrainPaths:
    """Where the train stage reads and writes; `work` holds the resumable state of exactly this run."""

    data: DataFolders
    voice: Path
    report: Path
    work: Path
