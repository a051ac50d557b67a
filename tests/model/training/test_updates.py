"""Accumulation, precision, frozen parts, clipping and the reference's quirks in training steps."""

import dataclasses
import io

import pytest
import torch
from torch.nn import functional

from model.settings import ConfigError
from model.training.optimizer import Updater
from model.training.trainer import Trainer
from tests.model.training.test_trainer import DISCRIMINATOR, MODEL, SETTINGS, config, trainer, utterance, weights
from tests.model.utterances import collate

CPU = torch.device("cpu")
STILL = dataclasses.replace(MODEL, dropout=0.0, duration_dropout=0.0)
EQUAL = [utterance(6, 128 * 30, seed) for seed in range(4)]  # of one length each, so that means of means are means
EQUAL_DURATIONS = torch.full((4, 6), 5)


def _batch(*indices: int):
    return collate(EQUAL, indices, {"EN": 6}, SETTINGS.hop_samples)


def _still(**changes) -> Trainer:
    return Trainer(STILL, DISCRIMINATOR, config(**changes), SETTINGS, CPU)


def _saved(state):
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


def test_two_accumulated_batches_give_the_update_of_both_together():
    settings = {
        "adversarial_start_step": 99,
        "eps": 1e-4,
    }  # a large eps: no rounding of tiny gradients grows to a full step
    together, parts = _still(**settings), _still(**settings, accumulation_steps=2)
    for _ in range(3):
        whole = together.step(_batch(0, 1, 2, 3), 0, EQUAL_DURATIONS)
        halves = [parts.step(_batch(0, 1), 0, EQUAL_DURATIONS[:2]), parts.step(_batch(2, 3), 0, EQUAL_DURATIONS[:2])]
    assert whole["mel"] == pytest.approx((halves[0]["mel"] + halves[1]["mel"]) / 2, rel=1e-4)
    assert whole["gradient_norm"] == pytest.approx(halves[1]["gradient_norm"], rel=1e-3)
    torch.testing.assert_close(weights(together), weights(parts), rtol=1e-3, atol=1e-4)


def test_between_updates_nothing_changes_and_nothing_can_be_saved():
    training = _still(adversarial_start_step=0, accumulation_steps=3)
    before, network = weights(training), training.discriminator.discriminators[0].conv_post.bias.clone()
    assert not training.between_updates
    for _ in range(2):
        assert "gradient_norm" not in training.step(_batch(0, 1), 0, EQUAL_DURATIONS[:2])
        assert training.between_updates
        assert training.step_count == 0
        with pytest.raises(RuntimeError, match="[12] of 3 batches are accumulated"):
            training.state_dict()
    assert torch.equal(before, weights(training))
    assert torch.equal(network, training.discriminator.discriminators[0].conv_post.bias)
    assert "gradient_norm" in training.step(_batch(0, 1), 0, EQUAL_DURATIONS[:2])
    assert not training.between_updates
    assert training.step_count == 1
    assert not torch.equal(before, weights(training))
    assert not torch.equal(network, training.discriminator.discriminators[0].conv_post.bias)


def test_a_restored_trainer_has_no_accumulated_gradients():
    training, other = _still(accumulation_steps=2), _still(accumulation_steps=2)
    state = _saved(training.state_dict())
    training.step(_batch(2, 3), 0, EQUAL_DURATIONS[:2])
    training.load_state_dict(state)
    for each in (training, other):
        for rows in ((0, 1), (1, 2)):
            each.step(_batch(*rows), 0, EQUAL_DURATIONS[:2])
    assert torch.equal(weights(training), weights(other))


def test_bf16_trains_similarly_and_keeps_weights_in_fp32(batch, durations):
    full, half = (
        _still(adversarial_start_step=0, adversarial_every=1, precision=precision) for precision in ("fp32", "bf16")
    )
    losses = [[each.step(batch, 0, durations) for _ in range(4)] for each in (full, half)]
    assert losses[0] != losses[1]
    for name in ("mel", "kl", "duration", "discriminator", "feature", "adversarial"):
        assert losses[1][-1][name] == pytest.approx(losses[0][-1][name], rel=0.1), name
    assert all(value.dtype == torch.float32 for value in half.voice_state().values())


@pytest.mark.parametrize(
    "decoder",
    [
        {"decoder": "istft"},
        {
            "decoder": "hifigan",
            "upsample_rates": (8, 8, 2),
            "upsample_kernel_sizes": (16, 16, 4),
            "upsample_initial_channels": 16,
        },
    ],
)
def test_under_bf16_samples_alignment_and_prior_keep_full_precision(batch, decoder):
    training = Trainer(
        dataclasses.replace(STILL, **decoder, use_sdp=True, sdp_channels=8, frame_prior_layers=0),
        DISCRIMINATOR,
        config(precision="bf16"),
        SETTINGS,
        CPU,
    )
    inputs = batch.inputs(training.posterior_input(batch), with_speakers=False)
    with torch.autocast("cpu", torch.bfloat16):
        output = training.synthesizer(inputs, alignment_noise=0.01)
    for name in (
        "waveform_segment",
        "prior_mean",
        "prior_log_std",
        "latent_prior",
        "posterior_log_std",
        "log_durations_target",
        "duration_loss",
    ):
        value = getattr(output, name)
        assert value.dtype == torch.float32, name
    segment = output.waveform_segment[output.waveform_segment.abs() > 1e-3]
    assert not torch.equal(segment, segment.bfloat16().float())


def test_fp16_on_the_cpu_is_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match="fp16 needs a GPU; on the CPU set fp32, or bf16"):
        _still(precision="fp16")


def test_an_fp16_update_that_overflows_is_skipped_and_the_scale_is_saved():
    parameter = torch.nn.Parameter(torch.ones(3))
    updater = Updater([parameter], 0.1, config(precision="fp16", gradient_clip=0.0), CPU)
    updater.backward(parameter.sum() * torch.inf)
    updater.update()
    assert torch.equal(parameter, torch.ones(3))
    scale = updater.scaler.get_scale()
    assert scale == 0.5 * torch.amp.GradScaler("cpu").get_scale()
    restored = Updater([parameter], 0.1, config(precision="fp16", gradient_clip=0.0), CPU)
    restored.load_state_dict(_saved(updater.state_dict()))
    assert restored.scaler.get_scale() == scale
    restored.backward((parameter * torch.tensor([1.0, 2.0, 2.0])).sum())
    assert float(restored.update()) == pytest.approx(
        3.0
    )  # the norm of the gradients themselves, not of the scaled ones
    assert not torch.equal(parameter, torch.ones(3))


def test_gradients_are_clipped_by_value():
    parameter = torch.nn.Parameter(torch.zeros(2))
    updater = Updater([parameter], 0.1, config(gradient_clip=0.0, gradient_clip_value=0.5), CPU)
    updater.backward((parameter * torch.tensor([3.0, -0.25])).sum())
    assert float(updater.update()) == pytest.approx(9.0625**0.5)
    assert parameter.grad.tolist() == [0.5, -0.25]


def test_frozen_parts_keep_their_weights(batch, durations):
    training = Trainer(
        MODEL, DISCRIMINATOR, config(adversarial_start_step=0), SETTINGS, CPU, freeze=("text_encoder", "decoder.head")
    )
    before = {name: value.clone() for name, value in training.voice_state().items()}
    for _ in range(2):
        training.step(batch, 0, durations)
    changed = {name for name, value in training.voice_state().items() if not torch.equal(value, before[name])}
    frozen = ("text_encoder.", "decoder.head.")
    assert not [name for name in changed if name.startswith(frozen)]
    assert {"flow", "decoder", "posterior_encoder"} <= {name.split(".")[0] for name in changed}
    assert all(
        parameter.grad is None for name, parameter in training.synthesizer.named_parameters() if name.startswith(frozen)
    )
    n_trained = sum(not name.startswith(frozen) for name, _ in training.synthesizer.named_parameters())
    assert len(training.generator_updater.optimizer.state) == len(training.ema_weights) == n_trained


@pytest.mark.parametrize(
    ("names", "message"),
    [(("encoder",), "no part 'encoder'; valid are text_encoder, .*decoder"), (("",), "no part ''")],
)
def test_unknown_parts_are_refused_with_the_valid_ones(names, message):
    with pytest.raises(ConfigError, match=message):
        Trainer(MODEL, DISCRIMINATOR, config(), SETTINGS, CPU, freeze=names)


def test_freezing_everything_is_refused():
    parts = [name for name, _ in trainer().synthesizer.named_children()]
    with pytest.raises(ConfigError, match="every part is frozen"):
        Trainer(MODEL, DISCRIMINATOR, config(), SETTINGS, CPU, freeze=parts)


def _duration_gradient(quirks: bool, batch, durations) -> torch.Tensor | None:
    training = Trainer(
        STILL,
        DISCRIMINATOR,
        config(adversarial_start_step=0, duration_weight=0.0),
        SETTINGS,
        CPU,
        reference_quirks=quirks,
    )
    training.step(batch, 0, durations)
    return training.synthesizer.duration_predictor.projection.weight.grad


def test_the_duration_discriminator_sends_gradients_to_the_generator_unless_with_quirks(batch, durations):
    assert _duration_gradient(False, batch, durations).abs().sum() > 0
    quirky = _duration_gradient(True, batch, durations)
    assert quirky is None or not quirky.any()


@pytest.mark.parametrize("quirks", [False, True])
def test_true_durations_become_more_probable_or_predicted_ones_with_quirks(quirks, batch, durations):
    training = Trainer(
        STILL,
        DISCRIMINATOR,
        config(adversarial_start_step=0, adversarial_every=1, discriminator_learning_rate=0.01),
        SETTINGS,
        CPU,
        reference_quirks=quirks,
        freeze=("duration_predictor",),
    )
    network = training.duration_discriminator
    for _ in range(12):
        training.step(batch, 0, durations)
    inputs = batch.inputs(training.posterior_input(batch), with_speakers=False, durations=durations)
    with torch.no_grad():
        output = training.synthesizer(inputs)
        true, predicted = network.eval()(
            output.text_hidden, output.phone_mask, output.log_durations_target, output.log_durations
        )
    assert (true.mean() < predicted.mean()) == quirks


def test_padding_does_not_reach_the_duration_discriminator(batch, durations):
    alone = collate([utterance(6, 128 * 30, 1)], [0], {"EN": 6}, SETTINGS.hop_samples)
    wider = {name: functional.pad(getattr(alone, name), (0, 5)) for name in ("phone_ids", "tone_ids", "language_ids")}
    padded = dataclasses.replace(alone, **wider, bert={"EN": functional.pad(alone.bert["EN"], (0, 5))})
    losses = []
    for each in (alone, padded):
        training = _still(adversarial_start_step=0)
        training.duration_discriminator.dropout.p = 0.0
        losses.append(training.step(each, 0, functional.pad(durations[:1, :6], (0, each.phone_ids.shape[1] - 6))))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(("quirks", "factors"), [(False, [0.125, 0.0625]), (True, [1.0, 0.5])])
def test_the_decay_continues_after_a_resume_or_restarts_with_quirks(quirks, factors, batch, durations):
    settings = config(schedule="epoch_decay", learning_rate_decay=0.5)
    first, resumed = (Trainer(MODEL, DISCRIMINATOR, settings, SETTINGS, CPU, reference_quirks=quirks) for _ in range(2))
    first.step(batch, 2, durations)
    assert first.generator_updater.optimizer.param_groups[0]["lr"] == pytest.approx(0.25e-3)
    resumed.load_state_dict(_saved(first.state_dict()))
    rates = []
    for epoch in (3, 4):
        resumed.step(batch, epoch, durations)
        rates.append(resumed.generator_updater.optimizer.param_groups[0]["lr"] / 1e-3)
    assert rates == pytest.approx(factors)


def test_the_adversarial_subset_does_not_depend_on_batch_order():
    settings = {"adversarial_start_step": 0, "adversarial_share": 0.25, "ema_decay": 0.0}
    losses = []
    for rows in ((0, 1, 2, 3), (3, 2, 1, 0)):
        losses.append(_still(**settings).step(_batch(*rows), 0, EQUAL_DURATIONS)["discriminator"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
