"""The whole generator: variants, gradients."""

from dataclasses import replace

import pytest
import torch

from model.config import ModelConfig
from model.networks.masks import durations_to_path
from model.networks.random_draws import RandomDraws
from model.synthesizer import Synthesizer, SynthesizerInputs, alignment_scores


def make_batch(config: ModelConfig, **changes) -> SynthesizerInputs:
    phone_ids = torch.randint(0, config.n_symbols, (2, 7))
    batch = SynthesizerInputs(
        phone_ids=phone_ids,
        phone_lengths=torch.tensor([7, 5]),
        tone_ids=torch.randint(0, config.n_tones, (2, 7)),
        language_ids=torch.full((2, 7), 2),
        bert={language: torch.randn(2, size, 7) for language, size in config.bert_channels.items()},
        spectrogram=torch.rand(2, config.spectrogram_channels, 20),
        spectrogram_lengths=torch.tensor([20, 15]),
        speaker_ids=torch.tensor([0, config.n_speakers - 1]) if config.n_speakers else None,
    )
    return replace(batch, **changes)


# tests/model/test_configurations.py trains every other variant.
VARIANTS = {
    "default": {},
    "several_berts": {"bert_channels": {"ZH": 5, "JP": 4, "EN": 3}},
    "reference_encoder": {"n_speakers": 0, "use_reference_encoder": True},
    "hifigan": {
        "decoder": "hifigan",
        "upsample_rates": (4, 2),
        "upsample_kernel_sizes": (8, 4),
        "upsample_initial_channels": 16,
        "resblock_kernel_sizes": (3,),
        "resblock_dilation_sizes": ((1, 3),),
        "resblock": "2",
    },
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants_train_and_speak(small_config, changes):
    config = small_config(**changes)
    model, batch = Synthesizer(config), make_batch(config)
    output = model(batch, alignment_noise=0.01)
    assert output.waveform_segment.shape == (2, 1, config.segment_frames * config.hop_samples)
    assert output.durations.sum(1).tolist() == [20, 15]
    distance = (output.latent_prior - output.prior_mean).square() * (-2 * output.prior_log_std).exp()
    loss = output.waveform_segment.square().mean() + output.duration_loss.sum() + distance.mean()
    loss.backward()
    # Zero-initialised last layers pass no gradient back, but every parameter has one.
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    spoken = model.eval().infer(
        batch.phone_ids,
        batch.phone_lengths,
        batch.tone_ids,
        batch.language_ids,
        batch.bert,
        batch.speaker_ids,
        reference_spectrogram=batch.spectrogram,
    )
    assert spoken.waveform.shape == (2, 1, spoken.frame_mask.shape[2] * config.hop_samples)
    assert spoken.waveform.isfinite().all()
    assert torch.equal(spoken.durations.sum(1), spoken.frame_mask.sum((1, 2)).long())
    resynthesised = model.reconstruct(batch.spectrogram, batch.spectrogram_lengths, batch.speaker_ids)
    assert resynthesised.shape == (2, 1, 20 * config.hop_samples)


@torch.no_grad()
def test_given_durations_replace_the_search(small_config):
    model = Synthesizer(small_config()).eval()
    batch = make_batch(model.config)
    searched = model(batch)
    given = model(replace(batch, durations=searched.durations))
    assert torch.equal(given.durations, searched.durations)
    torch.testing.assert_close(given.prior_mean, searched.prior_mean)
    other = (torch.arange(7) < batch.phone_lengths.unsqueeze(1)).long()
    other[:, 0] = batch.spectrogram_lengths - (batch.phone_lengths - 1)
    assert torch.equal(model(replace(batch, durations=other)).durations, other)


def test_alignment_scores_are_gaussian_log_likelihoods():
    latent, mean, log_std = torch.randn(2, 4, 6), torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    normal = torch.distributions.Normal(mean.unsqueeze(2), log_std.exp().unsqueeze(2))
    expected = normal.log_prob(latent.unsqueeze(3)).sum(1)
    torch.testing.assert_close(alignment_scores(latent, mean, log_std), expected, atol=1e-3, rtol=1e-4)


def test_alignment_search_passes_no_gradient(small_config):
    model = Synthesizer(small_config())
    output = model(make_batch(model.config))
    assert not output.durations.requires_grad


def test_alignment_noise_changes_random_draws_only_when_it_applies(small_config):
    batch = make_batch(small_config())
    starts = []
    for noise_scaled, noise in ((True, 0.0), (False, 0.01)):
        torch.manual_seed(3)
        model = Synthesizer(small_config(noise_scaled=noise_scaled))
        starts.append(model(batch, alignment_noise=noise).latent)
    assert torch.equal(*starts)


def test_decoding_can_be_skipped(small_config):
    model = Synthesizer(small_config())
    output = model(make_batch(model.config), decode=False)
    assert output.waveform_segment is None
    assert output.segment_starts.shape == (2,)


class FixedDraws(RandomDraws):
    """Noise of zeros, segments at the start, and one choice for each utterance."""

    def __init__(self, choices):
        self.uniforms = [torch.zeros(len(choices)), torch.tensor(choices)]

    def normal(self, like, lengths):
        return torch.zeros_like(like)

    def uniform(self, like):
        return self.uniforms.pop(0)


def test_segments_are_decoded_from_the_text_or_the_recording(small_config):
    config = small_config(n_speakers=0, speaker_channels=0)
    model = Synthesizer(config).eval()
    batch = make_batch(config, durations=torch.tensor([[5, 3, 3, 3, 2, 2, 2], [3, 3, 3, 3, 3, 0, 0]]))
    with torch.no_grad():
        segments = model.decode_segments(batch, prior_share=0.5, prior_noise=1.0, draws=FixedDraws([0.4, 0.6]))
        posterior = model.posterior_encoder(batch.spectrogram, batch.spectrogram_lengths, None, sample=False)
        text = model.text_encoder(
            batch.phone_ids, batch.phone_lengths, batch.tone_ids, batch.language_ids, batch.bert, None
        )
        means = durations_to_path(batch.durations, 20) @ text.prior_mean.transpose(1, 2)
        of_text = model.flow(means.transpose(1, 2), posterior.frame_mask, None, reverse=True) * posterior.frame_mask
        expected = torch.stack([of_text[0], posterior.mean[1]])[:, :, : config.segment_frames]
        assert torch.allclose(segments.waveform, model.decoder(expected, None), atol=1e-6)
    assert segments.starts.tolist() == [0, 0]


def test_decoding_segments_sends_gradients_to_the_decoder_only(small_config):
    model = Synthesizer(small_config())
    model.decode_segments(make_batch(model.config), prior_share=0.5, prior_noise=1.0).waveform.square().sum().backward()
    taught = {name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert taught == {"decoder"}


def test_utterance_shorter_than_the_segment_is_padded(small_config):
    config = small_config(segment_frames=30)
    model = Synthesizer(config)
    output = model(make_batch(config))
    assert output.waveform_segment.shape == (2, 1, 30 * config.hop_samples)
    assert output.segment_starts.tolist() == [0, 0]


def test_missing_speaker_is_named(small_config):
    model = Synthesizer(small_config())
    with pytest.raises(ValueError, match="speaker_ids are needed: the model has 3 speakers"):
        model(make_batch(model.config, speaker_ids=None))


@torch.no_grad()
def test_batch_of_two_speaks_as_each_alone(small_config):
    config = small_config()
    model, batch = Synthesizer(config).eval(), make_batch(small_config())
    quiet = {"noise_scale": 0.0, "duration_noise_scale": 0.0}
    together = model.infer(
        batch.phone_ids,
        batch.phone_lengths,
        batch.tone_ids,
        batch.language_ids,
        batch.bert,
        batch.speaker_ids,
        **quiet,
    )
    alone = model.infer(
        batch.phone_ids[1:, :5],
        batch.phone_lengths[1:],
        batch.tone_ids[1:, :5],
        batch.language_ids[1:, :5],
        {"EN": batch.bert["EN"][1:, :, :5]},
        batch.speaker_ids[1:],
        **quiet,
    )
    n_frames = alone.frame_mask.shape[2]
    torch.testing.assert_close(together.latent[1:, :, :n_frames], alone.latent, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("sdp_ratio", [0.0, 0.5, 1.0])
def test_longer_length_scale_gives_more_frames(small_config, sdp_ratio):
    model, batch = Synthesizer(small_config()).eval(), make_batch(small_config())
    frames = []
    for length_scale in (1.0, 3.0):
        torch.manual_seed(0)
        frames.append(
            model.infer(
                batch.phone_ids,
                batch.phone_lengths,
                batch.tone_ids,
                batch.language_ids,
                batch.bert,
                batch.speaker_ids,
                sdp_ratio=sdp_ratio,
                length_scale=length_scale,
            ).durations.sum()
        )
    assert frames[1] > frames[0]


@torch.no_grad()
def test_speech_beyond_max_frames_is_cut_off(small_config):
    model, batch = Synthesizer(small_config()).eval(), make_batch(small_config())
    output = model.infer(
        batch.phone_ids,
        batch.phone_lengths,
        batch.tone_ids,
        batch.language_ids,
        batch.bert,
        batch.speaker_ids,
        length_scale=3.0,
        max_frames=4,
    )
    assert output.waveform.shape[2] == 4 * model.config.hop_samples
    assert output.frame_mask.shape[2] == 4
