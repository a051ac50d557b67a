"""The source-filter decoder: a vocoder before any training, the right pitch, flat sources, noise where speech is
unvoiced.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.audio.pitch import REFERENCE_HZ, UNIT, pitch_features
from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import mel_filterbank
from model.audio.spectrogram_torch import log_mel_spectrogram
from model.config import ModelConfig
from model.networks.decoders.source_filter import SourceFilterDecoder, posterior_frames
from model.settings import ConfigError
from model.text.symbols import SymbolTable
from stages.train.manifest_source import DataFolders, ManifestSource, read_split
from tests.small_corpus import SmallCorpus

CONFIG = ModelConfig(
    n_speakers=0,
    speaker_channels=0,
    speaker_layer_index=-1,
    spectrogram_channels=82,
    inter_channels=82,
    decoder="source_filter",
    istft_channels=16,
    istft_layers=1,
    istft_filter_channels=16,
    istft_n_fft=1024,
    hop_samples=256,
    sample_rate_hz=16000,
)
SETTINGS = SpectrogramSettings(sample_rate_hz=16000, n_fft=1024, hop_samples=256, win_samples=1024, n_mels=80)


def decoder() -> SourceFilterDecoder:
    torch.manual_seed(0)
    return SourceFilterDecoder(CONFIG).eval()


def features(pitch_hz: float, voiced: bool, n_frames: int) -> Tensor:
    return (
        torch.tensor([math.log(pitch_hz / REFERENCE_HZ) / UNIT, 1.0 if voiced else -1.0])
        .view(1, 2, 1)
        .expand(1, 2, n_frames)
    )


@torch.no_grad()
def test_an_untrained_decoder_is_a_vocoder(small_corpus: SmallCorpus) -> None:
    table, facts = read_split(small_corpus.split)
    folders = DataFolders(small_corpus.split, small_corpus.resample, small_corpus.spectrogram, small_corpus.bert)
    source = ManifestSource(folders, table, facts, "train", SymbolTable(), False)
    filterbank = torch.from_numpy(mel_filterbank(SETTINGS))
    pcm = source.pcm(0)[: 256 * (len(source.pcm(0)) // 256)]
    log_mel = log_mel_spectrogram(torch.from_numpy(pcm / np.float32(32768))[None], SETTINGS, filterbank)
    pitch = torch.from_numpy(pitch_features(pcm, 16000, 256, log_mel.shape[2]))[None]
    spoken = decoder()(posterior_frames(log_mel, pitch)).squeeze(1)
    assert spoken.shape == (1, len(pcm))
    again = log_mel_spectrogram(spoken, SETTINGS, filterbank)
    audible = log_mel > log_mel.max() - 7
    assert float((again - log_mel)[audible].abs().mean()) < 0.45  # noise about its own level alone differs by 0.4


@torch.no_grad()
def test_voiced_frames_have_the_pitch_and_unvoiced_ones_have_none() -> None:
    network, n_frames = decoder(), 80
    latent = torch.zeros(1, 82, n_frames)
    for voiced in (True, False):
        latent[:, -2:] = features(200.0, voiced, n_frames)
        waveform = network(latent)[0, 0]
        tracked, voicing = pitch_features(
            (waveform / waveform.abs().max() * 20000).numpy().astype(np.int16), 16000, 256, n_frames
        )
        inner = slice(5, -5)
        share = (voicing[inner] == 1).mean()  # the tracker, too, errs on sounds that are no speech
        assert share > 0.7 if voiced else share < 0.3
        if voiced:
            assert REFERENCE_HZ * np.exp(UNIT * np.median(tracked[inner])) == pytest.approx(200, rel=0.01)


@torch.no_grad()
def test_pulses_are_all_harmonics_below_the_nyquist_frequency_and_no_more() -> None:
    pulses = decoder()._pulses(features(250.0, True, 64))[0]
    n = len(pulses)
    spectrum = torch.fft.rfft(pulses * torch.hann_window(n)).abs() / (n / 4)
    peaks = spectrum[torch.arange(250, 7680, 250) * n // 16000]
    assert peaks == pytest.approx(np.ones(len(peaks)), abs=0.05)
    assert spectrum[7750 * n // 16000 :].max() < 0.05
    assert pulses.abs().max() <= 31


@torch.no_grad()
def test_noise_decides_and_makes_decoding_repeatable() -> None:
    network = decoder()
    latent = torch.randn(1, 82, 10, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(1, 1, 2560, generator=torch.Generator().manual_seed(2))
    assert torch.equal(network(latent, noise=noise), network(latent, noise=noise))
    assert not torch.equal(network(latent, noise=noise), network(latent, noise=-noise))


def test_the_estimate_of_pitch_starts_as_what_the_latent_says() -> None:
    latent = torch.randn(2, 82, 9)
    estimate = decoder().pitch(latent)
    assert torch.allclose(estimate.log_pitch, latent[:, -2])
    assert torch.equal(estimate.features()[:, 1] > 0, latent[:, -1] > 0)


def test_a_latent_of_another_size_than_mels_and_pitch_is_refused() -> None:
    with pytest.raises(ConfigError, match="inter_channels 80 is not 82"):
        ModelConfig.from_dict({**CONFIG.to_dict(), "inter_channels": 80})
