"""Starting from a base voice: verified against the parameters, carried into a trainer, and left untouched."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.audio.settings import SpectrogramSettings
from model.checkpoints.checkpoint import checkpoint_sha256, save_checkpoint
from model.config import DiscriminatorConfig, ModelConfig
from model.text.symbols import SymbolTable
from model.training.config import TrainingConfig
from model.training.trainer import Trainer
from stages.common.command import from_mapping
from stages.common.errors import ParamsError, PipelineError
from stages.train.base_voice import BaseVoiceParams, warm_start

TABLE = SymbolTable(symbols=("_", "a", "b"), tones={"EN": (0, 1)}, languages=("EN",))
SETTINGS = SpectrogramSettings(sample_rate_hz=8000, n_fft=64, hop_samples=16, win_samples=64, n_mels=10)
MODEL = ModelConfig(
    n_symbols=3,
    n_tones=2,
    n_languages=1,
    n_speakers=2,
    speaker_channels=4,
    speaker_layer_index=0,
    bert_channels={},
    spectrogram_channels=10,
    inter_channels=8,
    hidden_channels=16,
    filter_channels=16,
    n_layers=1,
    flow="residual",
    n_flows=2,
    flow_layers=1,
    posterior_layers=1,
    use_sdp=False,
    duration_channels=8,
    decoder="istft",
    istft_channels=8,
    istft_layers=1,
    istft_filter_channels=8,
    istft_n_fft=64,
    hop_samples=16,
    segment_frames=4,
)
JUDGES = DiscriminatorConfig(periods=(2,), use_scale=False, channels=2, max_channels=8, duration_channels=8)


def trainer(seed: int) -> Trainer:
    training = TrainingConfig(
        steps=10,
        batch_size=2,
        max_batch_frames=1000,
        seed=seed,
        learning_rate=1e-3,
        discriminator_learning_rate=1e-3,
        betas=(0.8, 0.99),
        eps=1e-9,
        weight_decay=0.01,
        schedule="cosine",
        learning_rate_decay=0.5,
        final_learning_rate_share=0.1,
        warmup_steps=0,
        gradient_clip=5.0,
        ema_decay=0.9,
        mel_weight=45.0,
        kl_weight=1.0,
        duration_weight=1.0,
        adversarial_start_step=0,
        adversarial_every=1,
        adversarial_share=1.0,
        adversarial_weight=1.0,
        feature_weight=1.0,
        alignment_noise=0.0,
        alignment_noise_decay=0.0,
    )
    return Trainer(MODEL, JUDGES, training, SETTINGS, torch.device("cpu"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    of = trainer(1)
    assert of.duration_discriminator is not None
    save_checkpoint(
        tmp_path / "base",
        tensors={
            "synthesizer": of.voice_state(),
            "discriminator": of.discriminator.state_dict(),
            "duration_discriminator": of.duration_discriminator.state_dict(),
        },
        metadata={"model": MODEL.to_dict(), "symbols": TABLE.to_dict(), "speakers": ["a", "b"], "step": 3},
    )
    return tmp_path / "base"


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def states(of: Trainer) -> list[dict[str, torch.Tensor]]:
    assert of.duration_discriminator is not None
    return [
        of.synthesizer.state_dict(),
        of.discriminator.state_dict(),
        of.duration_discriminator.state_dict(),
        of.voice_state(),
    ]


def test_a_trainer_takes_over_every_network_and_its_average(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, new, before = trainer(1), trainer(2), content(base)
    with caplog.at_level(logging.INFO):
        report = warm_start(BaseVoiceParams(str(base), checkpoint_sha256(base)), new, TABLE, ["a", "b"])
    for expected, found in zip(states(source), states(new), strict=True):
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert new.ema_weights
    assert all(
        value.data_ptr() != new.synthesizer.get_parameter(name).data_ptr() for name, value in new.ema_weights.items()
    )
    assert report is not None
    assert json.loads(json.dumps(report))["sha256"] == checkpoint_sha256(base)
    assert "text_encoder: " in caplog.text
    assert content(base) == before, "the base voice is only read"


def test_without_a_base_the_trainer_stays_as_it_is() -> None:
    new = trainer(2)
    assert warm_start(BaseVoiceParams(), new, TABLE, ["a", "b"]) is None
    untouched = states(trainer(2))[0]
    assert all(torch.equal(value, untouched[key]) for key, value in new.synthesizer.state_dict().items())


def test_a_base_without_or_with_another_hash_is_refused_and_both_are_named(base: Path) -> None:
    found, wrong = checkpoint_sha256(base), "0" * 64
    for given, told in ((None, "null"), (wrong, wrong)):
        with pytest.raises(
            PipelineError,
            match=rf"sha256 {found}, train\.base_voice\.sha256 is {told}; set train\.base_voice\.sha256 to {found}",
        ):
            warm_start(BaseVoiceParams(str(base), given), trainer(2), TABLE, ["a", "b"])


def alter(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (path,) = folder.glob(name)
        path.write_bytes(change(path.read_bytes()))

    return act


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (alter("synthesizer-*", lambda data: data[:-4]), r"synthesizer-.*truncated or altered"),
        (alter("metadata.json", lambda data: data.replace(b'"step": 3', b'"step": 4')), r"the base voice has sha256"),
        (alter("metadata.json", lambda data: data[:-9]), r"metadata\.json: unreadable"),
        (lambda folder: folder.rename(folder.parent / "elsewhere"), r"base: no such folder; train\.base_voice\.folder"),
    ],
)
def test_a_changed_damaged_or_missing_base_is_one_line(base: Path, spoil: Callable[[Path], None], message: str) -> None:
    params = BaseVoiceParams(str(base), checkpoint_sha256(base))
    spoil(base)
    with pytest.raises(PipelineError, match=message) as caught:
        warm_start(params, trainer(2), TABLE, ["a", "b"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folder": None, "sha256": "0" * 64}, "sha256 is given without folder"),
        ({"folder": " ", "sha256": None}, "folder is empty"),
        ({"folder": "base", "sha256": "abc"}, "sha256 'abc' is not 64 hexadecimal digits"),
        ({"folder": 3, "sha256": None}, "folder should be a valid string, found 3"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        from_mapping(BaseVoiceParams, values, where="params.yaml: train.base_voice")
