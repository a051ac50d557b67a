"""How the networks are trained: losses' weights, schedules, precision and the optimiser's numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

SCHEDULES = ("cosine", "epoch_decay")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the networks are trained; every value can change the result.

    Losses: mel_weight · L1 of log-mels + kl_weight · KL + duration + adversarial terms. The adversarial terms join at
    `adversarial_start_step`, in every `adversarial_every`-th step, on `adversarial_share` of the batch.
    `cosine` falls from the learning rate to `final_learning_rate_share` of it over `steps`; `epoch_decay` multiplies
    by `learning_rate_decay` each epoch, as the reference does; both rise linearly over `warmup_steps` first.
    Before `decode_start_step` nothing is decoded and the posterior stays as it is: the path from text to latent learns
    alone, at half the cost, which makes sense for a latent that follows the mels from the start.
    From `decoder_alone_start_step` (null: never) the decoder and its judges learn alone: all else stays at its averaged
    weights, and warm-up and cosine start again. The decoder then learns from the latents that it will meet: for a share
    `decode_prior_share` of the utterances that of their text, drawn at `decode_prior_noise` (0 … 1) of the prior's
    spread,
    as speaking does.
    `gradient_clip` (by norm), `gradient_clip_value` (by value, after the norm) and `ema_decay` are off at 0.
    An update takes the mean of the gradients of `accumulation_steps` batches; `steps` counts updates. `precision` is
    that of the networks' matrix products (autocast): weights, losses, mels and alignment stay in fp32.
    """

    steps: int
    batch_size: int
    max_batch_frames: int
    seed: int
    learning_rate: float
    discriminator_learning_rate: float
    betas: tuple[float, ...]
    eps: float
    weight_decay: float
    schedule: str
    learning_rate_decay: float
    final_learning_rate_share: float
    warmup_steps: int
    gradient_clip: float
    ema_decay: float
    mel_weight: float
    kl_weight: float
    duration_weight: float
    adversarial_start_step: int
    adversarial_every: int
    adversarial_share: float
    adversarial_weight: float
    feature_weight: float
    alignment_noise: float
    alignment_noise_decay: float
    gradient_clip_value: float = 0.0
    accumulation_steps: int = 1
    precision: str = "fp32"
    decode_start_step: int = 0
    decoder_alone_start_step: int | None = None
    decode_prior_share: float = 0.0
    decode_prior_noise: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if self.schedule not in SCHEDULES:
            problems.append(f"schedule {self.schedule!r} is not one of {', '.join(SCHEDULES)}")
        if self.precision not in PRECISIONS:
            problems.append(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if len(self.betas) != 2:
            problems.append(f"betas needs two values, found {self.betas}")
        problems += [
            f"{name} is {getattr(self, name)}; it must be positive"
            for name in (
                "steps",
                "batch_size",
                "max_batch_frames",
                "learning_rate",
                "discriminator_learning_rate",
                "adversarial_every",
                "accumulation_steps",
            )
            if getattr(self, name) <= 0
        ]
        problems += [
            f"{name} is {getattr(self, name)}; it must not be negative"
            for name in (
                "seed",
                "warmup_steps",
                "gradient_clip",
                "gradient_clip_value",
                "weight_decay",
                "decode_start_step",
                "adversarial_start_step",
                "alignment_noise",
                "alignment_noise_decay",
                "decode_prior_noise",
            )
            if getattr(self, name) < 0
        ]
        if self.adversarial_start_step < self.decode_start_step:
            problems.append(
                f"adversarial_start_step {self.adversarial_start_step} is before decode_start_step {self.decode_start_step}: "
                "there is no waveform to judge; raise it"
            )
        if not 0 < self.adversarial_share <= 1:
            problems.append(f"adversarial_share {self.adversarial_share} is outside (0, 1]")
        if not 0 <= self.decode_prior_share <= 1:
            problems.append(f"decode_prior_share {self.decode_prior_share} is outside [0, 1]")
        if self.decoder_alone_start_step is None:
            if self.decode_prior_share:
                problems.append(
                    f"decode_prior_share {self.decode_prior_share} has no effect without decoder_alone_start_step; set that as well"
                )
        elif self.decoder_alone_start_step < self.decode_start_step:
            problems.append(
                f"decoder_alone_start_step {self.decoder_alone_start_step} is before decode_start_step {self.decode_start_step}; "
                "raise it"
            )
        if not 0 <= self.ema_decay < 1:
            problems.append(f"ema_decay {self.ema_decay} is outside [0, 1)")
        if problems:
            raise ValueError("; ".join(problems))

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
        """Return whether all but the decoder and its judges stays as it is at a step."""
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
