"""One training step, its schedules and its state, on a tiny network and made-up speech."""

import math

import numpy as np
import pytest
import torch

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import linear_spectrogram
from model.config import DiscriminatorConfig, ModelConfig
from model.settings import ConfigError
from model.training.trainer import Trainer, TrainingConfig
from tests.model.utterances import Utterance

SETTINGS = SpectrogramSettings(sample_rate_hz=16000, n_fft=512, hop_samples=128, win_samples=512, n_mels=20)
MODEL = ModelConfig(
    n_symbols=12,
    n_tones=4,
    n_languages=2,
    n_speakers=0,
    speaker_channels=0,
    speaker_layer_index=-1,
    bert_channels={"EN": 6},
    spectrogram_channels=20,
    inter_channels=8,
    hidden_channels=16,
    filter_channels=32,
    n_layers=1,
    flow="residual",
    n_flows=2,
    flow_layers=1,
    posterior_layers=1,
    use_sdp=False,
    duration_channels=16,
    decoder="istft",
    istft_channels=16,
    istft_layers=1,
    istft_filter_channels=32,
    istft_n_fft=512,
    hop_samples=128,
    segment_frames=8,
    frame_prior_layers=1,
    frame_prior_channels=16,
)
DISCRIMINATOR = DiscriminatorConfig(periods=(2, 3), use_scale=False, channels=2, max_channels=8, duration_channels=8)


def config(**changes) -> TrainingConfig:
    return TrainingConfig(
        **{
            "steps": 10,
            "batch_size": 2,
            "max_batch_frames": 1000,
            "seed": 3,
            "learning_rate": 1e-3,
            "discriminator_learning_rate": 1e-3,
            "betas": (0.8, 0.99),
            "eps": 1e-9,
            "weight_decay": 0.01,
            "schedule": "cosine",
            "learning_rate_decay": 0.5,
            "final_learning_rate_share": 0.1,
            "warmup_steps": 0,
            "gradient_clip": 5.0,
            "ema_decay": 0.9,
            "mel_weight": 45.0,
            "kl_weight": 1.0,
            "duration_weight": 1.0,
            "adversarial_start_step": 2,
            "adversarial_every": 2,
            "adversarial_share": 0.5,
            "adversarial_weight": 1.0,
            "feature_weight": 1.0,
            "alignment_noise": 0.0,
            "alignment_noise_decay": 0.0,
            **changes,
        }
    )


def utterance(n_phones: int, n_samples: int, seed: int) -> Utterance:
    rng = np.random.default_rng(seed)
    pcm = (rng.normal(0, 2000, n_samples)).astype(np.int16)
    return Utterance(
        phone_ids=rng.integers(0, 12, n_phones),
        tone_ids=rng.integers(0, 4, n_phones),
        language_ids=np.ones(n_phones, dtype=np.int64),
        bert={"EN": rng.normal(size=(4, 6)).astype(np.float16)[np.sort(rng.integers(0, 4, n_phones))]},
        linear=linear_spectrogram(pcm, SETTINGS).astype(np.float16),
        pcm=pcm,
        speaker_id=0,
    )


def trainer(**changes) -> Trainer:
    return Trainer(MODEL, DISCRIMINATOR, config(**changes), SETTINGS, torch.device("cpu"))


def weights(of: Trainer) -> torch.Tensor:
    return torch.cat([value.reshape(-1).float() for value in of.synthesizer.state_dict().values()])


def test_collated_features_lie_on_their_phones(batch):
    assert batch.bert["EN"].shape == (2, 6, 9)
    first = utterance(6, 128 * 30, 1)
    assert torch.equal(batch.bert["EN"][0, :, 3], torch.from_numpy(first.bert["EN"][3].astype(np.float32)))
    assert not batch.bert["EN"][0, :, 6:].any()
    assert batch.waveform.shape == (2, 40 * 128)
    assert not batch.waveform[0, 30 * 128 :].any()


def test_steps_lower_the_loss(batch, durations):
    training = trainer(steps=40, adversarial_start_step=1000)
    losses = [training.step(batch, 0, durations)["generator"] for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_adversarial_terms_join_at_their_step_and_pace(batch, durations):
    training = trainer()
    names = [set(training.step(batch, 0, durations)) for _ in range(5)]
    assert ["adversarial" in each for each in names] == [False, False, True, False, True]
    assert {"discriminator", "duration_discriminator", "feature", "duration_adversarial"} <= names[2]


def test_a_restored_trainer_continues_with_the_same_bits(batch, durations):
    straight = trainer()
    for _ in range(3):
        straight.step(batch, 0, durations)
    state, random_state = straight.state_dict(), torch.get_rng_state()
    saved = {name: value for name, value in torch.load(_through_disk(state), weights_only=True).items()}
    for _ in range(3):
        straight.step(batch, 0, durations)
    resumed = trainer()
    resumed.load_state_dict(saved)
    torch.set_rng_state(random_state)
    for _ in range(3):
        resumed.step(batch, 0, durations)
    assert torch.equal(weights(straight), weights(resumed))
    assert all(torch.equal(straight.ema_weights[name], resumed.ema_weights[name]) for name in straight.ema_weights)


def _through_disk(state):
    import io

    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return stream


def test_evaluation_changes_neither_weights_nor_random_state(batch, durations):
    training = trainer()
    training.step(batch, 0, durations)
    before, noise = weights(training), torch.get_rng_state()
    first = training.evaluate(batch, durations)
    assert training.evaluate(batch, durations) == first
    assert torch.equal(before, weights(training))
    assert torch.equal(noise, torch.get_rng_state())
    assert all(math.isfinite(value) for value in first.values())


def test_the_voice_has_the_ema_weights(batch, durations):
    training = trainer(ema_decay=0.5)
    name = "decoder.head.projection.bias"
    before = training.synthesizer.state_dict()[name].clone()
    training.step(batch, 0, durations)
    decay = min(0.5, 1 / 10)
    expected = before * decay + training.synthesizer.state_dict()[name] * (1 - decay)
    assert torch.allclose(training.voice_state()[name], expected, atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "step", "epoch", "factor"),
    [
        ({}, 0, 0, 1.0),
        ({}, 10, 0, 0.1),
        ({}, 5, 7, 0.55),
        ({"warmup_steps": 4, "schedule": "epoch_decay"}, 1, 0, 0.5),
        ({"schedule": "epoch_decay"}, 9, 3, 0.125),
    ],
)
def test_learning_rates_follow_the_schedule(changes, step, epoch, factor):
    assert config(**changes).learning_rate_factor(step, epoch) == pytest.approx(factor)


@pytest.mark.parametrize(("step", "factor"), [(0, 0.5), (2, 0.55), (4, 0.5), (7, 0.55), (10, 0.1)])
def test_the_schedule_restarts_when_only_the_decoder_is_trained(step, factor):
    settings = config(decoder_alone_start_step=4, warmup_steps=2)
    assert settings.learning_rate_factor(step, 0) == pytest.approx(factor)


ALONE = {
    "decode_start_step": 1,
    "decoder_alone_start_step": 3,
    "decode_prior_share": 0.5,
    "decode_prior_noise": 0.3,
    "ema_decay": 0.5,
}


def test_only_the_decoder_is_trained_and_the_rest_keeps_its_ema_weights(batch, durations):
    training = trainer(**ALONE)
    for _ in range(3):
        assert "kl" in training.step(batch, 0, durations)
    settled = {name: value.clone() for name, value in training.voice_state().items()}
    for _ in range(4):
        losses = training.step(batch, 0, durations)
        assert "mel" in losses and not {"kl", "duration", "duration_discriminator"} & set(losses)
    for state in (training.synthesizer.state_dict(), training.voice_state()):
        changed = {name.partition(".")[0] for name, value in state.items() if not torch.equal(value, settled[name])}
        assert changed == {"decoder"}


@pytest.mark.parametrize("n_before", [3, 5])
def test_a_run_restored_while_only_the_decoder_is_trained_has_the_same_bits(batch, durations, n_before):
    straight, resumed = trainer(**ALONE), trainer(**ALONE)
    for _ in range(n_before):
        straight.step(batch, 0, durations)
    resumed.load_state_dict(torch.load(_through_disk(straight.state_dict()), weights_only=True))
    random_state = torch.get_rng_state()
    expected = [straight.step(batch, 1, durations) for _ in range(3)]
    torch.set_rng_state(random_state)
    assert [resumed.step(batch, 1, durations) for _ in range(3)] == expected
    assert torch.equal(weights(straight), weights(resumed))


def test_a_frozen_decoder_cannot_be_all_that_is_trained():
    with pytest.raises(
        ConfigError, match="the decoder is frozen, but it is all that is trained from decoder_alone_start_step on"
    ):
        Trainer(MODEL, DISCRIMINATOR, config(**ALONE), SETTINGS, torch.device("cpu"), freeze=["decoder"])


def test_training_only_the_decoder_searches_an_alignment_without_durations(batch):
    training = trainer(decode_start_step=0, decoder_alone_start_step=0, decode_prior_share=1.0)
    assert math.isfinite(training.step(batch, 0, None)["mel"])
