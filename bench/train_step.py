"""Is a training step faster than the reference's order of work?

One optimiser step of the full-size networks. The plain side transcribes that order at equal weights, draws and losses:
discriminators judge real and generated clips in separate passes, in both updates, with gradients for their weights also
in the generator's; three AdamW, each with gradient norms taken one by one; the networks of `plain_networks`. Mels of
real segments come from the segments' waveform on both sides, or the losses would differ at their edges.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bench.harness.common import OURS, REFERENCE, Result, Timings, cost_result, use_one_thread
from bench.harness.plain_networks import PlainDiscriminator, PlainDurationDiscriminator, PlainSynthesizer
from bench.harness.speech import CORPUS_RATE_HZ, Clip
from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import linear_spectrogram
from model.audio.spectrogram_torch import log_mel_spectrogram
from model.config import DiscriminatorConfig, ModelConfig
from model.networks.masks import clip_gradients_by_value, slice_segments
from model.networks.random_draws import UtteranceDraws
from model.synthesizer import SynthesizerOutput
from model.training.config import TrainingConfig
from model.training.dataset import Batch, StoredBatch, fill_samples
from model.training.losses import discriminator_loss, feature_matching_loss, generator_loss, kl_loss, mel_loss
from model.training.trainer import Trainer
from pipeline.params.presets import load_preset
from stages.common.command import from_mapping

PRESETS = Path(__file__).parents[1] / "presets"
SETTINGS = SpectrogramSettings(sample_rate_hz=44100, n_fft=2048, hop_samples=512, win_samples=2048, n_mels=128)
BERT_CHANNELS = {"ZH": 1024, "JP": 768}
N_CLIPS = 2
CLIP_SECONDS = (2.0, 4.0)
N_SPEAKERS = 2
N_ROUNDS = 3  # a step takes many seconds, and always about as many
TOLERANCE = 1e-4
TARGET = 1.5


class PlainStep:
    """A step in the reference's order of work, from the current weights of a trainer."""

    def __init__(self, trainer: Trainer, discriminator: DiscriminatorConfig) -> None:
        self.trainer = trainer
        self.synthesizer = PlainSynthesizer(trainer.synthesizer.config)
        self.synthesizer.load_state_dict(trainer.synthesizer.state_dict())
        self.discriminator = PlainDiscriminator(discriminator)
        self.discriminator.load_state_dict(trainer.discriminator.state_dict())
        self.duration_discriminator = PlainDurationDiscriminator(
            in_channels=trainer.synthesizer.config.hidden_channels,
            filter_channels=discriminator.duration_channels,
            speaker_channels=trainer.synthesizer.config.effective_speaker_channels,
        )
        if trainer.duration_discriminator is None:
            raise ValueError("the benchmark needs a duration discriminator")
        self.duration_discriminator.load_state_dict(trainer.duration_discriminator.state_dict())
        self.networks = (self.synthesizer, self.discriminator, self.duration_discriminator)
        config = trainer.config
        first, second = config.betas
        self.optimizers = [
            torch.optim.AdamW(
                network.parameters(),
                config.learning_rate,
                betas=(first, second),
                eps=config.eps,
                weight_decay=config.weight_decay,
            )
            for network in self.networks
        ]

    def __call__(self, batch: Batch, epoch: int) -> dict[str, float]:
        """Update all networks by one batch and return its losses."""
        config, settings = self.trainer.config, self.trainer.spectrogram
        segment_frames = self.synthesizer.config.segment_frames
        draws = UtteranceDraws(config.seed, epoch, batch.indices.tolist(), self.trainer.device)
        inputs = batch.inputs(self.trainer.posterior_input(batch), with_speakers=True)
        output = self.synthesizer(inputs, alignment_noise=config.alignment_noise, draws=draws)
        generated = output.waveform_segment
        hop = settings.hop_samples
        real = slice_segments(batch.waveform.unsqueeze(1), output.segment_starts * hop, segment_frames * hop)
        real_mel, generated_mel = (
            log_mel_spectrogram(clips.squeeze(1), settings, self.trainer.filterbank) for clips in (real, generated)
        )

        on_real, on_generated = self.discriminator(real, generated.detach())
        losses = {
            "discriminator": discriminator_loss([each for each, _ in on_real], [each for each, _ in on_generated]).total
        }
        losses["duration_discriminator"] = discriminator_loss(*self._judge_durations(output, detached=True)).total
        self._update(2, losses["duration_discriminator"])
        self._update(1, losses["discriminator"])

        on_real, on_generated = self.discriminator(real, generated)
        _, on_durations = self._judge_durations(output, detached=False)
        terms = {
            "mel": mel_loss(real_mel, generated_mel),
            "kl": kl_loss(
                output.latent_prior,
                output.posterior_log_std,
                output.prior_mean,
                output.prior_log_std,
                output.frame_mask,
            ),
            "duration": output.duration_loss.sum(),
            "adversarial": generator_loss([each for each, _ in on_generated])[0],
            "feature": feature_matching_loss([maps for _, maps in on_real], [maps for _, maps in on_generated]),
            "duration_adversarial": generator_loss(on_durations)[0],
        }
        weights = config.loss_weights()
        total = sum(weights[name] * term for name, term in terms.items())
        norm = self._update(0, total)
        every = {**losses, "generator": total, **terms}
        return {name: float(loss.detach()) for name, loss in every.items()} | {"gradient_norm": norm}

    def _judge_durations(self, output: SynthesizerOutput, *, detached: bool) -> tuple[list[Tensor], list[Tensor]]:
        true, predicted = output.log_durations_target, output.log_durations
        if detached:
            true, predicted = true.detach(), predicted.detach()
        verdicts = self.duration_discriminator(
            output.text_hidden, output.phone_mask, true, predicted, output.speaker_embedding
        )
        is_phone = output.phone_mask.transpose(1, 2) > 0  # (B, 1, P) → (B, P, 1)
        return [verdicts[0][is_phone]], [verdicts[1][is_phone]]

    def _update(self, index: int, loss: Tensor) -> float:
        self.optimizers[index].zero_grad()
        loss.backward()
        norm = clip_gradients_by_value(self.networks[index].parameters(), None)
        self.optimizers[index].step()
        return norm


def full_size() -> tuple[ModelConfig, DiscriminatorConfig, TrainingConfig]:
    """Return the reference preset's configurations."""
    train = load_preset("reference", PRESETS).values["train"]
    derived = {
        "n_speakers": N_SPEAKERS,
        "bert_channels": BERT_CHANNELS,
        "spectrogram_channels": SETTINGS.n_frequencies,
        "hop_samples": SETTINGS.hop_samples,
    }
    return (
        ModelConfig.from_dict({**train["model"], **derived}),
        DiscriminatorConfig.from_dict(train["discriminator"]),
        from_mapping(TrainingConfig, train["optimisation"], where="reference preset: train.optimisation"),
    )


def make_batch(clips: Sequence[Clip], settings: SpectrogramSettings, model: ModelConfig) -> Batch:
    """Return a batch of clips with a random phone for each letter and blanks between them, as long as real text."""
    ids, linear, pcm = [], [], []
    for speaker, clip in enumerate(clips):
        rng = np.random.default_rng(speaker)
        n_phones = 2 * sum(map(str.isalpha, clip.text)) + 1
        drawn = (
            rng.integers(0, model.n_symbols, n_phones),
            rng.integers(0, model.n_tones, n_phones),
            np.full(n_phones, model.n_languages - 1),
        )
        ids.append(torch.from_numpy(np.stack(drawn, axis=1)))
        pcm.append(clip.at_rate(settings.sample_rate_hz))
        linear.append(torch.from_numpy(linear_spectrogram(pcm[-1], settings).astype(np.float16)))
    phone_ids, tone_ids, language_ids = pad_sequence(ids, batch_first=True).unbind(2)
    frames = pad_sequence(linear, batch_first=True)
    waveform = np.zeros((len(clips), frames.shape[1] * settings.hop_samples), np.int16)
    for row, samples in zip(waveform, pcm, strict=True):
        fill_samples(row, samples)
    return StoredBatch(
        indices=torch.arange(len(clips)),
        phone_ids=phone_ids,
        phone_lengths=torch.tensor([len(each) for each in ids]),
        tone_ids=tone_ids,
        language_ids=language_ids,
        linear=frames,
        frame_lengths=torch.tensor([len(each) for each in linear]),
        bert={
            language: torch.zeros(*phone_ids.shape, size, dtype=torch.float16)
            for language, size in model.bert_channels.items()
        },
        waveform=torch.from_numpy(waveform),
        speaker_ids=torch.arange(len(clips)) % model.n_speakers,
    ).to(torch.device("cpu"))


def without_dropout(network: nn.Module) -> None:
    """Turn dropout off: real and generated clips draw different masks in separate passes than in one."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def compare_losses(
    model: ModelConfig,
    discriminator: DiscriminatorConfig,
    training: TrainingConfig,
    settings: SpectrogramSettings,
    batch: Batch,
) -> float:
    """Return the largest relative difference of the two sides' losses over one step from equal weights, without
    dropout.
    """
    still = dataclasses.replace(model, dropout=0.0, duration_dropout=0.0)
    trainer = Trainer(still, discriminator, training, settings, torch.device("cpu"))
    plain = PlainStep(trainer, discriminator)
    for network in (trainer.duration_discriminator, plain.duration_discriminator):
        if network is not None:
            without_dropout(network)
    found, expected = trainer.step(batch, 0, None), plain(batch, 0)
    if set(found) != set(expected):
        raise RuntimeError(f"the two sides have different losses: {sorted(found)} and {sorted(expected)}")
    return max(abs(found[name] - value) / abs(value) for name, value in expected.items())


def run(clips: Sequence[Clip], scratch: Path) -> list[Result]:
    """Compare one step of the two sides, full size, fp32; raises RuntimeError when their losses differ."""
    use_one_thread()
    networks = full_size()
    low, high = (seconds * CORPUS_RATE_HZ for seconds in CLIP_SECONDS)
    chosen = [clip for clip in clips if low <= len(clip.pcm) <= high][:N_CLIPS]
    batch = make_batch(chosen, SETTINGS, networks[0])
    difference = compare_losses(*networks, SETTINGS, batch)
    if difference > TOLERANCE:
        raise RuntimeError(f"losses of the two sides differ by {difference:.1e}, more than {TOLERANCE:.0e}")
    trainer = Trainer(*networks, SETTINGS, torch.device("cpu"))
    plain = PlainStep(trainer, networks[1])
    seconds: dict[str, list[float]] = {OURS: [], REFERENCE: []}
    sides: dict[str, Callable[[int], object]] = {
        OURS: lambda epoch: trainer.step(batch, epoch, None),
        REFERENCE: lambda epoch: plain(batch, epoch),
    }
    for epoch in range(N_ROUNDS + 1):
        for name, step in sides.items():
            start = time.process_time()
            step(epoch)
            seconds[name].append(time.process_time() - start)
    timings = Timings({name: statistics.median(values[1:]) for name, values in seconds.items()}, N_ROUNDS)
    note = (
        f"{len(chosen)} clips of {batch.frame_lengths.tolist()} frames, {networks[0].segment_frames}-frame "
        f"segments, fp32, all three updates; "
        f"losses of one step agree within {difference:.0e}"
    )
    return [cost_result("train_step", timings, unit="s a step", unit_seconds=1.0, target=TARGET, note=note)]
