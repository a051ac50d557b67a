"""Every kind of configurable network trains on real speech, and its saved voice gives the same waveform.

Two steps each, without and with the adversarial terms. The small corpus has 16 kHz, hop 256 and 80 mels.
"""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram_torch import torch_linear_spectrogram
from model.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from model.config import DiscriminatorConfig, ModelConfig
from model.settings import ConfigError
from model.synthesizer import Synthesizer, SynthesizerInputs
from model.text.symbols import SymbolTable
from model.training.dataset import Batch, BatchDataset
from model.training.discriminators import MultiPeriodDiscriminator
from model.training.fit import check_training_fit
from model.training.trainer import Trainer, TrainingConfig
from pipeline.params.presets import load_preset
from stages.common.command import from_mapping
from stages.train.manifest_source import DataFolders, ManifestSource, read_split
from stages.train.pitch_tracks import attach_pitch
from tests.small_corpus import ROOT, SmallCorpus

SMALL: dict[str, Any] = {
    "n_speakers": 0,
    "speaker_channels": 0,
    "spectrogram_channels": 80,
    "inter_channels": 8,
    "hidden_channels": 16,
    "filter_channels": 16,
    "n_layers": 3,
    "dropout": 0.0,
    "flow": "residual",
    "n_flows": 2,
    "flow_layers": 2,
    "posterior_layers": 2,
    "use_sdp": False,
    "sdp_channels": 8,
    "sdp_flows": 2,
    "duration_channels": 8,
    "duration_dropout": 0.0,
    "decoder": "istft",
    "istft_channels": 16,
    "istft_layers": 1,
    "istft_filter_channels": 16,
    "istft_n_fft": 1024,
    "hop_samples": 256,
    "segment_frames": 12,
    "upsample_rates": (8, 8, 2, 2),
    "upsample_kernel_sizes": (16, 16, 4, 4),
    "upsample_initial_channels": 16,
}
LINEAR = {"spectrogram_channels": 513}
ONE_SPEAKER = {"n_speakers": 1, "speaker_channels": 8}
MANY_SPEAKERS = {"n_speakers": 5, "speaker_channels": 8}
REFERENCE = {"use_reference_encoder": True, "speaker_channels": 8}
TRANSFORMER = {"flow": "transformer"}
SHARED = {"share_flow_parameters": True}
SDP = {"use_sdp": True}
HIFIGAN = {"decoder": "hifigan", "resblock_kernel_sizes": (3, 5), "resblock_dilation_sizes": ((1, 3), (1, 2))}
SOURCE_FILTER = {"decoder": "source_filter", "spectrogram_channels": 82, "inter_channels": 82, "sample_rate_hz": 16000}
FRAME_PRIOR = {"frame_prior_layers": 2, "frame_prior_channels": 12}


@dataclasses.dataclass(frozen=True)
class Case:
    """Changes to the small configuration, and the data to train on."""

    model: dict[str, Any]
    blanks: bool = False
    known_durations: bool = False
    duration_discriminator: bool = True


CASES = {
    "small": Case({}),
    "one speaker": Case(ONE_SPEAKER),
    "many speakers": Case(MANY_SPEAKERS),
    "reference encoder": Case(REFERENCE),
    "no duration discriminator": Case({}, duration_discriminator=False),
    "shared flow": Case(SHARED),
    "transformer flow": Case(TRANSFORMER),
    "linear posterior": Case(LINEAR),
    "blanks": Case({}, blanks=True),
    "stochastic durations": Case(SDP),
    "hifigan 1": Case(HIFIGAN),
    "hifigan 2": Case({**HIFIGAN, "resblock": "2"}),
    "source filter": Case(SOURCE_FILTER),
    "source filter, speakers, frame prior, shared flow": Case(
        {**SOURCE_FILTER, **MANY_SPEAKERS, **FRAME_PRIOR, **SHARED}, known_durations=True
    ),
    "source filter, reference encoder, stochastic durations": Case({**SOURCE_FILTER, **REFERENCE, **SDP}),
    "frame prior": Case(FRAME_PRIOR, known_durations=True),
    "one head, no window": Case({**TRANSFORMER, "n_heads": 1, "attention_window": 0}),
    "even kernels": Case({**TRANSFORMER, "kernel_size": 4, "flow_kernel_size": 2}),
    "single layers": Case(
        {
            **TRANSFORMER,
            **ONE_SPEAKER,
            "n_layers": 1,
            "flow_layers": 1,
            "n_flows": 1,
            "posterior_layers": 1,
            "speaker_layer_index": 0,
        }
    ),
    "no features of a text encoder": Case({"bert_channels": {}}),
    # Pairs that share code or shapes.
    "shared transformer flow, no speakers": Case({**TRANSFORMER, **SHARED}),
    "shared flow, speakers": Case({**SHARED, **MANY_SPEAKERS}),
    "shared transformer flow, one speaker, stochastic durations": Case({**TRANSFORMER, **SHARED, **ONE_SPEAKER, **SDP}),
    "reference encoder, linear posterior": Case({**REFERENCE, **LINEAR}),
    "reference encoder, stochastic durations, transformer flow": Case({**REFERENCE, **SDP, **TRANSFORMER}),
    "reference encoder, hifigan, shared flow": Case({**REFERENCE, **HIFIGAN, **SHARED}),
    "unconditioned text encoder": Case({**MANY_SPEAKERS, "speaker_layer_index": -1}),
    "one speaker, no duration discriminator, stochastic durations": Case(
        {**ONE_SPEAKER, **SDP}, duration_discriminator=False
    ),
    "frame prior, speakers, blanks": Case({**FRAME_PRIOR, **MANY_SPEAKERS}, blanks=True, known_durations=True),
    "frame prior, searched durations": Case({**FRAME_PRIOR, **SDP}),
    "blanks, stochastic durations, hifigan, linear posterior, transformer flow": Case(
        {**SDP, **HIFIGAN, **LINEAR, **TRANSFORMER, **MANY_SPEAKERS}, blanks=True
    ),
}


@pytest.fixture(scope="module")
def sources(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, ManifestSource]:
    """The small corpus with blanks between the phones (True) and without (False)."""
    table, facts = read_split(small_corpus.split)
    folders = DataFolders(small_corpus.split, small_corpus.resample, small_corpus.spectrogram, small_corpus.bert)
    sources = {
        add_blank: ManifestSource(folders, table, facts, "train", SymbolTable(), add_blank)
        for add_blank in (False, True)
    }
    attach_pitch(list(sources.values()), tmp_path_factory.mktemp("pitch") / "pitch.npz", 0)
    return sources


def model_config(source: ManifestSource, changes: dict[str, Any]) -> ModelConfig:
    symbols = SymbolTable()
    of_the_corpus = {
        "n_symbols": len(symbols.symbols),
        "n_tones": symbols.tone_count,
        "n_languages": len(symbols.languages),
        "bert_channels": source.facts.bert_channels,
    }
    speakers = {} if "speaker_layer_index" in changes else {"speaker_layer_index": 2}
    return ModelConfig(**{**SMALL, **of_the_corpus, **speakers, **changes})


def training_config() -> TrainingConfig:
    """The smoke preset's, with the adversarial terms from the second step on."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["train"]["optimisation"]
    values |= load_preset("smoke", ROOT / "presets").values["train"]["optimisation"]
    values |= {
        "steps": 10,
        "adversarial_start_step": 1,
        "adversarial_every": 1,
        "adversarial_share": 1.0,
        "warmup_steps": 0,
        "ema_decay": 0.0,
        "alignment_noise": 0.01,
    }
    return from_mapping(TrainingConfig, values, where="train.optimisation")


def make_trainer(case: Case, source: ManifestSource) -> Trainer:
    discriminator = DiscriminatorConfig(
        periods=(2, 5),
        channels=2,
        max_channels=4,
        duration_channels=8,
        use_duration_discriminator=case.duration_discriminator,
    )
    config = model_config(source, case.model)
    check_training_fit(config, discriminator, source.facts.spectrogram)
    return Trainer(config, discriminator, training_config(), source.facts.spectrogram, torch.device("cpu"))


def make_batch(config: ModelConfig, source: ManifestSource) -> Batch:
    """The three shortest utterances, said by as many speakers as the model has."""
    shortest = source.n_frames.argsort(kind="stable")[:3].tolist()
    batch = BatchDataset(source, [shortest], config.bert_channels, config.hop_samples)[0].to(torch.device("cpu"))
    return dataclasses.replace(batch, speaker_ids=torch.arange(3) % max(1, config.n_speakers))


def even_durations(batch: Batch) -> Tensor:
    """Frames shared evenly among the phones of each utterance, the last phone taking the rest."""
    durations = torch.zeros_like(batch.phone_ids)
    for row, (n_phones, n_frames) in enumerate(
        zip(batch.phone_lengths.tolist(), batch.frame_lengths.tolist(), strict=True)
    ):
        durations[row, :n_phones] = n_frames // n_phones
        durations[row, n_phones - 1] += n_frames % n_phones
    return durations


def without_gradient(network: nn.Module) -> list[str]:
    return [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]


def speak(network: Synthesizer, batch: Batch, spectrogram: Tensor) -> Tensor:
    torch.manual_seed(1)
    config = network.config
    return (
        network.eval()
        .infer(
            batch.phone_ids,
            batch.phone_lengths,
            batch.tone_ids,
            batch.language_ids,
            batch.bert,
            batch.speaker_ids if config.n_speakers else None,
            max_frames=48,
            reference_spectrogram=spectrogram if config.use_reference_encoder else None,
        )
        .waveform
    )


@pytest.mark.parametrize("name", CASES)
def test_configuration_trains_and_speaks_the_same_after_saving(
    name: str, sources: dict[bool, ManifestSource], tmp_path: Path
) -> None:
    case = CASES[name]
    source = sources[case.blanks]
    trainer = make_trainer(case, source)
    network = trainer.synthesizer
    batch = make_batch(network.config, source)
    durations = even_durations(batch) if case.known_durations else None

    before, adversarial = trainer.step(batch, 0, durations), trainer.step(batch, 0, durations)

    assert all(math.isfinite(value) for value in (before | adversarial | trainer.evaluate(batch, durations)).values())
    assert "adversarial" not in before and {"discriminator", "adversarial", "feature"} <= set(adversarial)
    assert (
        ("duration_adversarial" in adversarial)
        == ("duration_discriminator" in adversarial)
        == case.duration_discriminator
    )
    assert without_gradient(network) == []
    assert without_gradient(trainer.discriminator) == []
    if trainer.duration_discriminator is not None:
        assert without_gradient(trainer.duration_discriminator) == []

    make_trainer(case, source).load_state_dict(trainer.state_dict())
    save_checkpoint(
        tmp_path, tensors={"synthesizer": trainer.voice_state()}, metadata={"model": network.config.to_dict()}
    )
    checkpoint = load_checkpoint(tmp_path)
    loaded = Synthesizer(ModelConfig.from_dict(checkpoint.metadata["model"]))
    loaded.load_state_dict(checkpoint.tensors["synthesizer"])
    spectrogram = trainer.posterior_input(batch)
    waveform = speak(network, batch, spectrogram)
    assert waveform.isfinite().all() and waveform.std() > 0
    assert torch.equal(speak(loaded, batch, spectrogram), waveform)


# Valid and invalid values, alone and in combination.
CHOICES: dict[str, tuple[Any, ...]] = {
    "n_speakers": (-1, 0, 1),
    "speaker_channels": (0, 4),
    "use_reference_encoder": (True, False),
    "bert_channels": ({}, {"EN": 0}, {"a.b": 2}, {"ZH": 2}),
    "spectrogram_channels": (0, 1, 2, 10),
    "inter_channels": (-2, 1, 2, 8),
    "hidden_channels": (0, 1, 15, 16),
    "filter_channels": (0, 1),
    "n_heads": (0, 1, 3),
    "n_layers": (0, 1),
    "kernel_size": (0, 1, 2, 4, 9),
    "dropout": (-0.1, 0.5, 1.0, math.nan),
    "attention_window": (-1, 0, 100),
    "speaker_layer_index": (-2, -1, 2),
    "frame_prior_layers": (-1, 0, 1),
    "frame_prior_channels": (0, 1),
    "flow": ("transformer", "residual", "x"),
    "n_flows": (0, 1, 3),
    "flow_layers": (0, 1),
    "flow_kernel_size": (1, 2),
    "posterior_layers": (1, 4),
    "share_flow_parameters": (True, False),
    "posterior_kernel_size": (0, 1, 2),
    "posterior_dilation_rate": (0, 3, 40),
    "use_sdp": (True, False),
    "sdp_channels": (0, 1),
    "sdp_flows": (0, 1),
    "duration_channels": (0, 1),
    "duration_dropout": (0.5, 1.0),
    "decoder": ("hifigan", "istft", "y"),
    "resblock": ("1", "2", "3"),
    "resblock_kernel_sizes": ((), (2, 3), (1, 3), (-1, 3)),
    "upsample_initial_channels": (-8, 1, 8, 12),
    "resblock_dilation_sizes": ((), ((1,), ()), ((0,), (1,)), ((2,), (1,))),
    "upsample_rates": ((), (8,), (-2, -2, 2), (1, 2, 4)),
    "upsample_kernel_sizes": ((8,), (4, 4, 4), (1, 2, 8), (3, 4, 4)),
    "istft_n_fft": (0, 8, 15, 16, 17, 64),
    "hop_samples": (-8, 1, 7, 8),
    "segment_frames": (0, 1, 3, 100),
    "periods": ((), (0,), (7, 11), (29,)),
    "use_scale": (True, False),
    "channels": (0, 1, 3),
    "max_channels": (0, 2, 5),
}
DISCRIMINATOR_FIELDS = ("periods", "use_scale", "channels", "max_channels")


def random_configuration(seed: int) -> tuple[ModelConfig, DiscriminatorConfig, SpectrogramSettings]:
    """Return settings with up to three random changes; raise ConfigError if they are refused."""
    draw = random.Random(seed)
    changes = {name: draw.choice(CHOICES[name]) for name in draw.sample(sorted(CHOICES), draw.choice((1, 2, 3)))}
    tiny = {
        "n_symbols": 5,
        "n_tones": 2,
        "n_languages": 2,
        "bert_channels": {"EN": 3},
        "spectrogram_channels": 10,
        "istft_n_fft": 32,
        "hop_samples": 8,
        "decoder": draw.choice(("hifigan", "istft")),
        "flow": draw.choice(("transformer", "residual")),
        "use_sdp": True,
        "upsample_rates": (2, 2, 2),
        "upsample_kernel_sizes": (4, 4, 4),
        "resblock_kernel_sizes": (3, 5),
        "resblock_dilation_sizes": ((1,), (1, 2)),
    }
    of_discriminator = {name: changes.pop(name) for name in DISCRIMINATOR_FIELDS if name in changes}
    model = ModelConfig.from_dict({**SMALL, **tiny, **changes})
    discriminator = DiscriminatorConfig.from_dict(
        {"channels": 1, "max_channels": 4, "periods": (2,), **of_discriminator}
    )
    settings = SpectrogramSettings(
        sample_rate_hz=16000, n_fft=32, hop_samples=model.hop_samples, win_samples=32, n_mels=10
    )
    check_training_fit(model, discriminator, settings)
    return model, discriminator, settings


def test_a_random_configuration_is_refused_or_works() -> None:
    accepted = 0
    for seed in range(40):
        try:
            configuration = random_configuration(seed)
        except ConfigError:
            continue
        accepted += 1
        try:
            forward_and_back(*configuration)
        except Exception as error:
            error.add_note(f"seed {seed}: {configuration}")
            raise
    assert 10 <= accepted <= 30  # neither all refused nor all accepted


def forward_and_back(model: ModelConfig, discriminator: DiscriminatorConfig, settings: SpectrogramSettings) -> None:
    """Run both passes on noise with the discriminators, then infer."""
    torch.manual_seed(0)
    network = Synthesizer(model)
    ids, lengths = torch.zeros(2, 5, dtype=torch.long), torch.tensor([5, 1])
    speaker_ids = ids[:, 0] if model.n_speakers else None
    bert = {language: torch.randn(2, size, 5) for language, size in model.bert_channels.items()}
    spectrogram = torch.randn(2, model.spectrogram_channels, 12)
    output = network(
        SynthesizerInputs(
            phone_ids=ids,
            phone_lengths=lengths,
            tone_ids=ids,
            language_ids=ids,
            bert=bert,
            spectrogram=spectrogram,
            spectrogram_lengths=torch.tensor([12, 7]),
            speaker_ids=speaker_ids,
        ),
        alignment_noise=0.01,
    )
    segment = output.waveform_segment
    assert segment is not None and segment.shape == (2, 1, model.segment_frames * model.hop_samples)
    torch_linear_spectrogram(segment.squeeze(1), settings)
    logits = [output.logits.sum() for output in MultiPeriodDiscriminator(discriminator).outputs(segment)]
    loss = torch.stack([*logits, output.duration_loss.sum(), output.latent_prior.sum(), output.prior_mean.sum()]).sum()
    loss.backward()
    assert loss.isfinite()
    network.decoder.remove_weight_norm()
    spoken = network.eval().infer(
        ids, lengths, ids, ids, bert, speaker_ids, max_frames=20, reference_spectrogram=spectrogram
    )
    assert spoken.waveform.isfinite().all()
    assert spoken.waveform.shape[2] == model.hop_samples * spoken.latent.shape[2]
