"""How the networks are trained: losses' weights, schedules, precision and the optimiser's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from model.settings import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Settings, Share


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """How the networks are trained; every value can change the result.

    Losses: mel_weight · L1 of log-mels + kl_weight · KL + duration + adversarial terms. The adversarial terms join at
    `adversarial_start_step`, in every `adversarial_every`-th step, on `adversarial_share` of the batch. `cosine` falls
    from the learning rate to `final_learning_rate_share` of it over `steps`; `epoch_decay` multiplies by
    `learning_rate_decay` each epoch, as the reference does; both rise linearly over `warmup_steps` first. Before
    `decode_start_step` nothing is decoded and the posterior stays as it is: the path from text to latent learns alone,
    at half the cost, which makes sense for a latent that follows the mels from the start. From
    `decoder_alone_start_step` (null: never) only the decoder and the discriminators learn: all else stays at its EMA
    weights, and warm-up and cosine start again. The decoder then learns from the latents that it will meet: for a share
    `decode_prior_share` of the utterances that of their text, drawn at `decode_prior_noise` (0 … 1) of the prior's
    spread, as speaking does. `gradient_clip` (by norm), `gradient_clip_value` (by value, after the norm) and
    `ema_decay` are off at 0. An update takes the mean of the gradients of `accumulation_steps` batches; `steps` counts
    updates. `precision` is that of the networks' matrix products (autocast): weights, losses, mels and alignment stay
    in fp32.
    """

    steps: PositiveInt
    batch_size: PositiveInt
    max_batch_frames: PositiveInt
    seed: NonNegativeInt
    learning_rate: PositiveFloat
    discriminator_learning_rate: PositiveFloat
    betas: tuple[float, float]
    eps: float
    weight_decay: NonNegativeFloat
    schedule: Literal["cosine", "epoch_decay"]
    learning_rate_decay: float
    final_learning_rate_share: float
    warmup_steps: NonNegativeInt
    gradient_clip: NonNegativeFloat
    ema_decay: Annotated[float, Interval(ge=0, lt=1)]
    mel_weight: float
    kl_weight: float
    duration_weight: float
    adversarial_start_step: NonNegativeInt
    adversarial_every: PositiveInt
    adversarial_share: Annotated[float, Interval(gt=0, le=1)]
    adversarial_weight: float
    feature_weight: float
    alignment_noise: NonNegativeFloat
    alignment_noise_decay: NonNegativeFloat
    gradient_clip_value: NonNegativeFloat = 0.0
    accumulation_steps: PositiveInt = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    decode_start_step: NonNegativeInt = 0
    decoder_alone_start_step: int | None = None
    decode_prior_share: Share = 0.0
    decode_prior_noise: NonNegativeFloat = 0.0

    def _conflicts(self) -> Iterator[str]:
        first_decoded = f"decode_start_step {self.decode_start_step}"
        if self.adversarial_start_step < self.decode_start_step:
            yield (
                f"adversarial_start_step {self.adversarial_start_step} is before {first_decoded}: "
                "there is no waveform to judge; raise it"
            )
        if self.decoder_alone_start_step is None:
            if self.decode_prior_share:
                yield (
                    f"decode_prior_share {self.decode_prior_share} has no effect without decoder_alone_start_step; "
                    "set that as well"
                )
        elif self.decoder_alone_start_step < self.decode_start_step:
            yield f"decoder_alone_start_step {self.decoder_alone_start_step} is before {first_decoded}; raise it"

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of each of the generator's losses in their sum."""
        return {
            "mel": self.mel_weight,
            "kl": self.kl_weight,
            "duration": self.duration_weight,
            "adversarial": self.adversarial_weight,
            "feature": self.feature_weight,
            "duration_adversarial": 1.0,
            "pitch": 1.0,
        }

    def decodes_at(self, step: int) -> bool:
        """Return whether the decoder learns at a step, counted from zero."""
        return step >= self.decode_start_step

    def decoder_learns_alone_at(self, step: int) -> bool:
        """Return whether only the decoder and the discriminators learn at a step."""
        return self.decoder_alone_start_step is not None and step >= self.decoder_alone_start_step

    def learning_rate_factor(self, step: int, epoch: int) -> float:
        """Return the factor on both learning rates at a step and epoch, counted from zero."""
        start, end = 0, self.steps
        if self.decoder_alone_start_step is not None:
            start, end = (
                (self.decoder_alone_start_step, end)
                if self.decoder_learns_alone_at(step)
                else (0, self.decoder_alone_start_step)
            )
        warmup = min(1.0, (step - start + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "epoch_decay":
            return warmup * self.learning_rate_decay**epoch
        progress = min(1.0, (step - start) / (end - start)) if end > start else 1.0
        low = self.final_learning_rate_share
        return warmup * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))
