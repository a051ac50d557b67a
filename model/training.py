"""Training: one object that owns networks, optimisers and schedules, and can be saved and restored exactly.

What happens in one step is `Trainer.step`; which batches come and what is written where is the caller's business.
Legend: B batch, P phones, T frames, S samples, C channels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.config import DiscriminatorConfig, ModelConfig
from model.dataset import Batch
from model.discriminators import DurationDiscriminator, MultiPeriodDiscriminator
from model.losses import discriminator_loss, feature_matching_loss, generator_loss, kl_loss, mel_loss
from model.masks import slice_segments
from model.spectrogram import SpectrogramSettings, mel_filterbank
from model.spectrogram_torch import log_mel, log_mel_spectrogram
from model.synthesizer import Synthesizer, SynthesizerOutput

SCHEDULES = ("cosine", "epoch_decay")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the networks are trained; every value can change the result.

    Losses: mel_weight · L1 of log-mels + kl_weight · KL + duration + adversarial terms. The adversarial terms join at
    `adversarial_start_step`, in every `adversarial_every`-th step, on `adversarial_share` of the batch.
    `cosine` falls from the learning rate to `final_learning_rate_share` of it over `steps`; `epoch_decay` multiplies
    by `learning_rate_decay` each epoch, as the reference does. `gradient_clip` 0 and `ema_decay` 0 switch both off.
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

    def __post_init__(self) -> None:
        problems = []
        if self.schedule not in SCHEDULES:
            problems.append(f"schedule {self.schedule!r} is not one of {', '.join(SCHEDULES)}")
        if len(self.betas) != 2:
            problems.append(f"betas needs two values, found {self.betas}")
        problems += [f"{name} is {getattr(self, name)}; it must be positive"
                     for name in ("steps", "batch_size", "max_batch_frames", "learning_rate", "adversarial_every")
                     if getattr(self, name) <= 0]  # fmt: skip
        if not 0 < self.adversarial_share <= 1:
            problems.append(f"adversarial_share {self.adversarial_share} is outside (0, 1]")
        if not 0 <= self.ema_decay < 1:
            problems.append(f"ema_decay {self.ema_decay} is outside [0, 1)")
        if problems:
            raise ValueError("; ".join(problems))

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of each of the generator's losses in their sum."""
        return {"mel": self.mel_weight, "kl": self.kl_weight, "duration": self.duration_weight,
                "adversarial": self.adversarial_weight, "feature": self.feature_weight, "duration_adversarial": 1.0}  # fmt: skip

    def learning_rate_factor(self, step: int, epoch: int) -> float:
        """Return the factor on both learning rates at a step and epoch, counted from zero."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "epoch_decay":
            return warmup * self.learning_rate_decay**epoch
        progress = min(1.0, step / self.steps)
        low = self.final_learning_rate_share
        return warmup * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


class Trainer:
    """Generator, discriminators, their optimisers and the averaged generator weights.

    With torch.distributed initialised, gradients are averaged over the ranks; every rank holds the same weights.
    """

    def __init__(
        self, model: ModelConfig, discriminator: DiscriminatorConfig, training: TrainingConfig,
        spectrogram: SpectrogramSettings, device: torch.device,
    ) -> None:  # fmt: skip
        torch.manual_seed(training.seed)
        self.config = training
        self.device = device
        self.spectrogram = spectrogram
        self.filterbank = torch.from_numpy(mel_filterbank(spectrogram)).to(device)
        self.synthesizer = Synthesizer(model).to(device)
        self.discriminator = MultiPeriodDiscriminator(discriminator).to(device)
        self.duration_discriminator: DurationDiscriminator | None = None
        if discriminator.use_duration_discriminator:
            self.duration_discriminator = DurationDiscriminator(
                in_channels=model.hidden_channels, filter_channels=discriminator.duration_channels,
                speaker_channels=model.effective_speaker_channels,
            ).to(device)  # fmt: skip
        self.generator_optimizer = self._optimizer(self.synthesizer.parameters(), training.learning_rate)
        judges = [*self.discriminator.parameters(), *(self.duration_discriminator.parameters() if self.duration_discriminator else [])]
        self.discriminator_optimizer = self._optimizer(judges, training.discriminator_learning_rate)
        # Every floating-point tensor of the networks is a parameter: the average needs no buffers.
        self.average = {name: value.detach().clone() for name, value in self.synthesizer.named_parameters()} if training.ema_decay else {}
        self.step_count = 0
        self._evaluated: Synthesizer | None = None
        self._evaluated_step = -1
        # Ranks hold the same weights but draw their own noise.
        torch.manual_seed(training.seed * 1000 + 1 + _rank())

    def _optimizer(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
        first, second = self.config.betas
        return torch.optim.AdamW(parameters, lr=learning_rate, betas=(first, second), eps=self.config.eps,
                                 weight_decay=self.config.weight_decay, fused=True)  # fmt: skip

    def posterior_input(self, linear: Tensor) -> Tensor:
        """Return what the posterior encoder reads, from linear magnitudes (B, F, T): log-mels or the magnitudes."""
        if self.synthesizer.config.spectrogram_channels == self.spectrogram.n_mels:
            return log_mel(linear, self.filterbank)
        return linear

    def step(self, batch: Batch, epoch: int, durations: Tensor | None) -> dict[str, float]:
        """Update all networks by one batch and return its losses, before weighting; `durations` (B, P) replace the alignment search."""
        self._set_learning_rates(epoch)
        noise = max(0.0, self.config.alignment_noise - self.config.alignment_noise_decay * self.step_count)
        inputs = batch.inputs(self.posterior_input(batch.linear), with_speakers=self.synthesizer.config.n_speakers > 0, durations=durations)
        output = self.synthesizer(inputs, alignment_noise=noise)
        real = self._real_segment(batch, output)
        adversarial = self._is_adversarial()
        losses: dict[str, Tensor] = {}
        if adversarial:
            losses.update(self._update_discriminators(real, output))
        losses.update(self._update_generator(real, output, adversarial))
        self._update_average()
        self.step_count += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def _is_adversarial(self) -> bool:
        since_start = self.step_count - self.config.adversarial_start_step
        return since_start >= 0 and since_start % self.config.adversarial_every == 0

    def _real_segment(self, batch: Batch, output: SynthesizerOutput) -> Tensor:
        hop = self.spectrogram.hop_samples
        return slice_segments(batch.waveform.unsqueeze(1), output.segment_starts * hop, self.synthesizer.config.segment_frames * hop)

    def _judged(self, segments: Tensor) -> Tensor:
        """Return the part of the batch that the waveform discriminators see."""
        return segments[: max(1, round(len(segments) * self.config.adversarial_share))]

    def _update_discriminators(self, real: Tensor, output: SynthesizerOutput) -> dict[str, Tensor]:
        pair = self.discriminator(self._judged(real), self._judged(_decoded(output)).detach())
        waveform = discriminator_loss([each.logits for each in pair.real], [each.logits for each in pair.generated]).total
        losses = {"discriminator": waveform}
        total = waveform
        if self.duration_discriminator is not None:
            judged = self.duration_discriminator(output.text_hidden, output.phone_mask, output.log_durations_target.detach(),
                                                 output.log_durations.detach(), output.speaker_embedding)  # fmt: skip
            losses["duration_discriminator"] = discriminator_loss([judged[0]], [judged[1]]).total
            total = total + losses["duration_discriminator"]
        self._apply(total, self.discriminator_optimizer)
        return losses

    def _update_generator(self, real: Tensor, output: SynthesizerOutput, adversarial: bool) -> dict[str, Tensor]:
        generated = _decoded(output)
        real_mel = log_mel_spectrogram(real.squeeze(1), self.spectrogram, self.filterbank)
        generated_mel = log_mel_spectrogram(generated.squeeze(1), self.spectrogram, self.filterbank)
        losses = {
            "mel": mel_loss(real_mel, generated_mel),
            "kl": kl_loss(output.latent_prior, output.posterior_log_std, output.prior_mean, output.prior_log_std, output.frame_mask),
            "duration": output.duration_loss.sum(),
        }
        if adversarial:
            losses.update(self._adversarial_losses(real, generated, output))
        weights = self.config.loss_weights()
        total = torch.stack([loss * weights[name] for name, loss in losses.items()]).sum()
        losses["gradient_norm"] = self._apply(total, self.generator_optimizer)
        return {"generator": total, **losses}

    def _adversarial_losses(self, real: Tensor, generated: Tensor, output: SynthesizerOutput) -> dict[str, Tensor]:
        with torch.no_grad():
            real_outputs = self.discriminator.judge(self._judged(real))
        with _frozen(self.discriminator):
            outputs = self.discriminator.judge(self._judged(generated))
        losses = {
            "adversarial": generator_loss([each.logits for each in outputs])[0],
            "feature": feature_matching_loss([each.feature_maps for each in real_outputs], [each.feature_maps for each in outputs]),
        }
        if self.duration_discriminator is not None:
            with _frozen(self.duration_discriminator):
                _, judged = self.duration_discriminator(output.text_hidden, output.phone_mask, output.log_durations_target,
                                                        output.log_durations, output.speaker_embedding)  # fmt: skip
            losses["duration_adversarial"] = generator_loss([judged])[0]
        return losses

    def _apply(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        """Step an optimiser down a loss and return the gradients' norm, averaged over ranks and before clipping."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.grad is not None]
        average_gradients(parameters)
        limit = self.config.gradient_clip or math.inf
        norm = nn.utils.clip_grad_norm_(parameters, limit)
        optimizer.step()
        return norm

    def _set_learning_rates(self, epoch: int) -> None:
        factor = self.config.learning_rate_factor(self.step_count, epoch)
        for optimizer, base in ((self.generator_optimizer, self.config.learning_rate),
                                (self.discriminator_optimizer, self.config.discriminator_learning_rate)):  # fmt: skip
            for group in optimizer.param_groups:
                group["lr"] = base * factor

    @torch.no_grad()
    def _update_average(self) -> None:
        if not self.average:
            return
        # A short memory at first, or the average would be made of untrained weights.
        decay = min(self.config.ema_decay, (1 + self.step_count) / (10 + self.step_count))
        torch._foreach_lerp_(list(self.average.values()), [value.detach() for value in self.synthesizer.parameters()], 1 - decay)

    @torch.no_grad()
    def evaluate(self, batch: Batch, durations: Tensor | None) -> dict[str, float]:
        """Return losses of the weights to keep, with noise that is the same at every call and disturbs no other.

        `mel` is the L1 of log-mels of whole utterances resynthesised from their posterior means; `kl` and `duration`
        follow `durations` (B, P), or the model's own alignment.
        """
        network = self._voice_network()
        with_speakers = network.config.n_speakers > 0
        inputs = batch.inputs(self.posterior_input(batch.linear), with_speakers=with_speakers, durations=durations)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(0)
            output = network(inputs, decode=False)
        resynthesis = network.reconstruct(inputs.spectrogram, inputs.spectrogram_lengths, inputs.speaker_ids)
        losses = {
            "mel": mel_loss(log_mel_spectrogram(batch.waveform, self.spectrogram, self.filterbank),
                            log_mel_spectrogram(resynthesis.squeeze(1), self.spectrogram, self.filterbank)),
            "kl": kl_loss(output.latent_prior, output.posterior_log_std, output.prior_mean, output.prior_log_std, output.frame_mask),
            "duration": output.duration_loss.sum(),
        }  # fmt: skip
        return {name: float(value) for name, value in losses.items()}

    def _voice_network(self) -> Synthesizer:
        """Return a network of its own that holds the current weights to keep, in evaluation mode."""
        if self._evaluated is None:
            self._evaluated = copy.deepcopy(self.synthesizer).eval()
        if self._evaluated_step != self.step_count:
            self._evaluated.load_state_dict(self.voice_state())
            self._evaluated_step = self.step_count
        return self._evaluated

    def voice_state(self) -> dict[str, Tensor]:
        """Return the generator weights to keep: the averaged ones where there are any."""
        return {**self.synthesizer.state_dict(), **self.average}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, but for this rank's random state."""
        return {
            "step_count": self.step_count, "synthesizer": self.synthesizer.state_dict(), "average": self.average,
            "discriminator": self.discriminator.state_dict(),
            "duration_discriminator": self.duration_discriminator.state_dict() if self.duration_discriminator else {},
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.step_count = state["step_count"]
        self.synthesizer.load_state_dict(state["synthesizer"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.discriminator.load_state_dict(state["discriminator"])
        if self.duration_discriminator is not None:
            self.duration_discriminator.load_state_dict(state["duration_discriminator"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through a network without computing those of its own weights."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _decoded(output: SynthesizerOutput) -> Tensor:
    if output.waveform_segment is None:
        raise ValueError("the synthesizer was run without its decoder; training needs the waveform segment")
    return output.waveform_segment


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all ranks, in one flat message; nothing without torch.distributed."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
