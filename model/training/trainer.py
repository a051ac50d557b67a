"""Training: one object that owns networks, optimisers and schedules, and can be saved and restored exactly.

`Trainer.step` is one step; the caller provides batches and writes outputs. Legend: B batch, P phones, T frames, S
samples, C channels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import mel_filterbank
from model.audio.spectrogram_torch import log_mel, log_mel_spectrogram
from model.config import DiscriminatorConfig, ModelConfig
from model.networks.decoders.source_filter import posterior_frames
from model.networks.masks import slice_segments
from model.networks.random_draws import UtteranceDraws, isolated_random_state
from model.settings import ConfigError
from model.synthesizer import Synthesizer, SynthesizerInputs, SynthesizerOutput
from model.training.adversarial import AdversarialSubset, GlobalShares, discriminate_durations, frozen, select_subset
from model.training.config import TrainingConfig
from model.training.dataset import Batch
from model.training.discriminators import DurationDiscriminator, MultiPeriodDiscriminator
from model.training.distributed import rank, total
from model.training.freeze import freeze_parts
from model.training.losses import (
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    kl_loss,
    mel_cepstral_distortion,
    mel_loss,
)
from model.training.optimizer import Updater


class Clips(NamedTuple):
    """A segment of every utterance as recorded and as generated, (B, 1, S) both."""

    real: Tensor
    generated: Tensor

    def pick(self, rows: Tensor) -> Clips:
        """Return the clips of some rows (N,)."""
        return Clips(self.real[rows], self.generated[rows])


class Trainer:
    """Generator, discriminators, their optimisers and the generator's EMA weights.

    With torch.distributed initialised, ranks train as one process would with all their batches together: random draws
    except dropout's depend on utterance and epoch only, losses are normalised by the counts of all ranks, and gradients
    are summed. Dropout uses each process's own generator.
    """

    def __init__(
        self,
        model: ModelConfig,
        discriminator: DiscriminatorConfig,
        training: TrainingConfig,
        spectrogram: SpectrogramSettings,
        device: torch.device,
        *,
        reference_quirks: bool = False,
        freeze: Sequence[str] = (),
    ) -> None:
        """Build and initialise all networks.

        `freeze` names parts of the synthesizer (dotted) whose weights are not trained. `reference_quirks` restores two
        properties of the reference: a duration discriminator with real and predicted durations swapped, which sends
        the generator no gradient, and an `epoch_decay` that restarts at every resume and so changes the result.
        Raises ConfigError for settings that cannot be trained.
        """
        if training.precision == "fp16" and device.type == "cpu":
            raise ConfigError("precision fp16 needs a GPU; on the CPU set fp32, or bf16")
        torch.manual_seed(training.seed)
        self.config = training
        self.device = device
        self.spectrogram = spectrogram
        self.reference_quirks = reference_quirks
        self.filterbank = torch.from_numpy(mel_filterbank(spectrogram)).to(device)
        self.synthesizer = Synthesizer(model).to(device)
        self.discriminator = MultiPeriodDiscriminator(discriminator).to(device)
        self.duration_discriminator: DurationDiscriminator | None = None
        if discriminator.use_duration_discriminator:
            self.duration_discriminator = DurationDiscriminator(
                in_channels=model.hidden_channels,
                filter_channels=discriminator.duration_channels,
                speaker_channels=model.effective_speaker_channels,
            ).to(device)
        freeze_parts(self.synthesizer, freeze)
        if training.decoder_alone_start_step is not None and not any(
            each.requires_grad for each in self.synthesizer.decoder.parameters()
        ):
            raise ConfigError(
                "freeze: the decoder is frozen, but it is all that is trained from decoder_alone_start_step on; "
                "remove one of the two"
            )
        trained = [each for each in self.synthesizer.parameters() if each.requires_grad]
        discriminator_parameters = [
            *self.discriminator.parameters(),
            *(self.duration_discriminator.parameters() if self.duration_discriminator else []),
        ]
        self.generator_updater = Updater(trained, training.learning_rate, training, device)
        self.discriminator_updater = Updater(
            discriminator_parameters, training.discriminator_learning_rate, training, device
        )
        self.ema_weights: dict[str, Tensor] = {}
        self.reset_ema()
        self.step_count = 0
        self._n_pending = 0  # batches accumulated since the last update
        self._decay_from_epoch: int | None = 0  # None: set by the next step
        self._evaluated: Synthesizer | None = None
        self._evaluated_step = -1
        # Ranks have the same weights but different dropout.
        torch.manual_seed(training.seed * 1000 + 1 + rank())

    @property
    def between_updates(self) -> bool:
        """Return whether gradients are being accumulated, so that no state can be saved."""
        return self._n_pending > 0

    def reset_ema(self) -> None:
        """Restart the EMA from the current weights, after they were loaded from elsewhere."""
        # Every floating-point tensor of the networks is a parameter, so no buffers are averaged.
        self.ema_weights = (
            {name: value.detach().clone() for name, value in self.synthesizer.named_parameters() if value.requires_grad}
            if self.config.ema_decay
            else {}
        )
        self._evaluated_step = -1

    def posterior_input(self, batch: Batch) -> Tensor:
        """Return the posterior encoder's input (B, C, T): linear magnitudes, or log-mels, with pitch if configured."""
        config = self.synthesizer.config
        if config.latent_follows_mels:
            if batch.pitch is None:
                raise ValueError("the batch has no pitch; a source-filter decoder needs it")
            return posterior_frames(log_mel(batch.linear, self.filterbank), batch.pitch)
        return (
            log_mel(batch.linear, self.filterbank)
            if config.spectrogram_channels == self.spectrogram.n_mels
            else batch.linear
        )

    def step(self, batch: Batch, epoch: int, durations: Tensor | None) -> dict[str, float]:
        """Train on one batch and return its losses before weighting, means over all ranks' batches.

        `durations` (B, P) replace the alignment search. Every `accumulation_steps`-th call updates the networks; until
        then `between_updates` is true, `step_count` does not change and there is no gradient_norm.
        """
        draws = UtteranceDraws(self.config.seed, epoch, batch.indices.tolist(), self.device)
        if not self.between_updates:
            self._begin_update(epoch)
        noise = max(0.0, self.config.alignment_noise - self.config.alignment_noise_decay * self.step_count)
        inputs = batch.inputs(
            self.posterior_input(batch), with_speakers=self.synthesizer.config.n_speakers > 0, durations=durations
        )
        output, clips = self._generate(batch, inputs, noise, draws)
        subset = (
            select_subset(draws.order, self.config.adversarial_share, self.device) if self._is_adversarial() else None
        )
        shares = GlobalShares.of(batch, subset.count if subset else 0, self.device)
        self._n_pending = (self._n_pending + 1) % self.config.accumulation_steps
        losses: dict[str, Tensor] = {}
        norm = None
        if subset and clips:
            losses.update(self._discriminator_losses(clips.pick(subset.rows), output, shares))
            if not self.between_updates:
                self.discriminator_updater.update()
        losses.update(self._generator_losses(clips, output, subset, shares))
        if not self.between_updates:
            norm = self.generator_updater.update()
            self._update_ema()
            self.step_count += 1
        return self._report(losses, shares, norm)

    def _begin_update(self, epoch: int) -> None:
        if self._decay_from_epoch is None:
            self._decay_from_epoch = epoch
        decoder_only = self.config.decoder_learns_alone_at(self.step_count)
        if self.step_count == self.config.decoder_alone_start_step:  # frozen parts keep their EMA weights
            self.synthesizer.load_state_dict(self.voice_state())
        for name, part in self.synthesizer.named_children():
            part.train(not decoder_only or name == "decoder")
        factor = self.config.learning_rate_factor(self.step_count, epoch - self._decay_from_epoch)
        for updater in (self.generator_updater, self.discriminator_updater):
            updater.set_factor(factor)
            updater.zero_grad()

    def _autocast(self) -> torch.autocast:
        precision = self.config.precision
        return torch.autocast(
            self.device.type,
            dtype=torch.float16 if precision == "fp16" else torch.bfloat16,
            enabled=precision != "fp32",
        )

    def _is_adversarial(self) -> bool:
        since_start = self.step_count - self.config.adversarial_start_step
        return since_start >= 0 and since_start % self.config.adversarial_every == 0

    def _generate(
        self, batch: Batch, inputs: SynthesizerInputs, alignment_noise: float, draws: UtteranceDraws
    ) -> tuple[SynthesizerOutput | None, Clips | None]:
        """Return the synthesizer's output and the clips, None for what is not trained at this step."""
        config, synthesizer = self.config, self.synthesizer
        decodes = config.decodes_at(self.step_count)
        output = None
        with self._autocast(), nullcontext() if decodes else frozen(synthesizer.posterior_encoder):
            if config.decoder_learns_alone_at(self.step_count):
                segments = synthesizer.decode_segments(
                    inputs, prior_share=config.decode_prior_share, prior_noise=config.decode_prior_noise, draws=draws
                )
                generated, starts = segments.waveform, segments.starts
            else:
                output = synthesizer(inputs, alignment_noise=alignment_noise, decode=decodes, draws=draws)
                generated, starts = output.waveform_segment, output.segment_starts
        if generated is None:
            return output, None
        hop = self.spectrogram.hop_samples
        return output, Clips(
            slice_segments(batch.waveform.unsqueeze(1), starts * hop, synthesizer.config.segment_frames * hop),
            generated,
        )

    def _discriminator_losses(
        self, clips: Clips, output: SynthesizerOutput | None, shares: GlobalShares
    ) -> dict[str, Tensor]:
        """Backpropagate the discriminators' losses and return them."""
        with self._autocast():
            pair = self.discriminator(clips.real, clips.generated.detach())
            probabilities = discriminate_durations(
                self.duration_discriminator, output, self.reference_quirks, train_network=True
            )
        losses = {
            "discriminator": discriminator_loss(
                [each.logits for each in pair.real], [each.logits for each in pair.generated]
            ).total
        }
        if probabilities:
            losses["duration_discriminator"] = discriminator_loss([probabilities[0]], [probabilities[1]]).total
        self.discriminator_updater.backward(self._sum(losses, shares, {}) / self.config.accumulation_steps)
        return losses

    def _generator_losses(
        self,
        clips: Clips | None,
        output: SynthesizerOutput | None,
        subset: AdversarialSubset | None,
        shares: GlobalShares,
    ) -> dict[str, Tensor]:
        """Backpropagate the generator's losses and return them."""
        losses = _latent_losses(output) if output else {}
        if clips:
            losses["mel"] = mel_loss(
                *(log_mel_spectrogram(each.squeeze(1), self.spectrogram, self.filterbank) for each in clips)
            )
            if subset:
                losses.update(self._adversarial_losses(clips.pick(subset.rows), output))
        objective = self._sum(losses, shares, self.config.loss_weights())
        self.generator_updater.backward(objective / self.config.accumulation_steps)
        return {"generator": objective, **losses}

    def _adversarial_losses(self, clips: Clips, output: SynthesizerOutput | None) -> dict[str, Tensor]:
        # Both passes use the same weights without gradients, so weight norms are computed once.
        with self._autocast(), frozen(self.discriminator), parametrize.cached():
            with torch.no_grad():
                real_outputs = self.discriminator.outputs(clips.real)
            outputs = self.discriminator.outputs(clips.generated)
        losses = {
            "adversarial": generator_loss([each.logits for each in outputs])[0],
            "feature": feature_matching_loss(
                [each.feature_maps for each in real_outputs], [each.feature_maps for each in outputs]
            ),
        }
        with self._autocast():
            probabilities = discriminate_durations(
                self.duration_discriminator, output, self.reference_quirks, train_network=False
            )
        if probabilities:
            losses["duration_adversarial"] = generator_loss([probabilities[1]])[0]
        return losses

    @staticmethod
    def _sum(losses: Mapping[str, Tensor], shares: GlobalShares, weights: Mapping[str, float]) -> Tensor:
        """Return this rank's part of the weighted sum of all ranks' losses."""
        return torch.stack(
            [loss * (weights.get(name, 1.0) * shares.of_loss(name)) for name, loss in losses.items()]
        ).sum()

    @staticmethod
    def _report(losses: Mapping[str, Tensor], shares: GlobalShares, norm: Tensor | None) -> dict[str, float]:
        parts = torch.stack([loss.detach().float() * shares.of_loss(name) for name, loss in losses.items()])
        report = dict(zip(losses, total(parts).tolist(), strict=True))
        return report if norm is None else {**report, "gradient_norm": float(norm)}

    @torch.no_grad()
    def _update_ema(self) -> None:
        if not self.ema_weights:
            return
        # A shorter average at first, or it would consist of untrained weights.
        decay = min(self.config.ema_decay, (1 + self.step_count) / (10 + self.step_count))
        weights = dict(self.synthesizer.named_parameters())
        torch._foreach_lerp_(
            list(self.ema_weights.values()), [weights[name].detach() for name in self.ema_weights], 1 - decay
        )

    @torch.no_grad()
    def evaluate(self, batch: Batch, durations: Tensor | None) -> dict[str, float]:
        """Return losses of the EMA weights in fp32, with the same noise at every call and isolated random state.

        `mel` is the L1 of log-mels of whole utterances resynthesised from their posterior means, and `mcd` their
        mel-cepstral distortion in dB. `kl` and `duration` use `durations` (B, P), or the model's alignment.
        """
        network = self.voice_network()
        inputs = batch.inputs(
            self.posterior_input(batch), with_speakers=network.config.n_speakers > 0, durations=durations
        )
        with isolated_random_state(self.device):
            output = network(inputs, decode=False)
            resynthesis = network.reconstruct(inputs.spectrogram, inputs.spectrogram_lengths, inputs.speaker_ids)
        mels = [
            log_mel_spectrogram(each, self.spectrogram, self.filterbank)
            for each in (batch.waveform, resynthesis.squeeze(1))
        ]
        losses = {"mel": mel_loss(*mels), "mcd": mel_cepstral_distortion(*mels), **_latent_losses(output)}
        return {name: float(value) for name, value in losses.items()}

    def voice_network(self) -> Synthesizer:
        """Return an eval-mode copy with the EMA weights."""
        if self._evaluated is None:
            self._evaluated = copy.deepcopy(self.synthesizer).eval()
        if self._evaluated_step != self.step_count:
            self._evaluated.load_state_dict(self.voice_state())
            self._evaluated_step = self.step_count
        return self._evaluated

    @contextmanager
    def evaluating(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Use other generator weights in `voice_network` and `evaluate` inside the block, which must not train."""
        network = self.voice_network()
        try:
            network.load_state_dict(weights)
            yield
        finally:
            self._evaluated_step = -1

    def voice_state(self) -> dict[str, Tensor]:
        """Return the generator's state with EMA weights in place of trained parameters, if there is an EMA."""
        return {**self.synthesizer.state_dict(), **self.ema_weights}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, except this rank's random state.

        Raises RuntimeError between updates, because gradients are not saved.
        """
        if self.between_updates:
            raise RuntimeError(
                f"{self._n_pending} of {self.config.accumulation_steps} batches are accumulated; "
                "save the state after the update"
            )
        return {
            "step_count": self.step_count,
            "synthesizer": self.synthesizer.state_dict(),
            "average": self.ema_weights,
            "discriminator": self.discriminator.state_dict(),
            "duration_discriminator": self.duration_discriminator.state_dict() if self.duration_discriminator else {},
            "generator_updater": self.generator_updater.state_dict(),
            "discriminator_updater": self.discriminator_updater.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.step_count = state["step_count"]
        self.synthesizer.load_state_dict(state["synthesizer"])
        self.ema_weights = {name: value.to(self.device) for name, value in state["average"].items()}
        self.discriminator.load_state_dict(state["discriminator"])
        if self.duration_discriminator is not None:
            self.duration_discriminator.load_state_dict(state["duration_discriminator"])
        self.generator_updater.load_state_dict(state["generator_updater"])
        self.discriminator_updater.load_state_dict(state["discriminator_updater"])
        self._n_pending = 0
        self._evaluated_step = -1
        if self.reference_quirks:
            self._decay_from_epoch = None


def _latent_losses(output: SynthesizerOutput) -> dict[str, Tensor]:
    """Return the losses between text and latent, and of a source-filter decoder's pitch estimate."""
    losses = {
        "kl": kl_loss(
            output.latent_prior, output.posterior_log_std, output.prior_mean, output.prior_log_std, output.frame_mask
        ),
        "duration": output.duration_loss.sum(),
    }
    return losses if output.pitch_loss is None else {**losses, "pitch": output.pitch_loss}
