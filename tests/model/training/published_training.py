"""A small Bert-VITS2 1.1 training's files, as published: what import and export are tested with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.checkpoints.published.config import PublishedSizes, published_model_config
from model.checkpoints.published.keys import Kind, to_reference_key
from model.config import DiscriminatorConfig
from model.synthesizer import Synthesizer
from model.training.discriminators import DurationDiscriminator, MultiPeriodDiscriminator

SPEAKERS = {"anna": 0, "ben": 2}


def small_config() -> dict[str, Any]:
    """Return a config.json with the keys that the original writes, for a model that is quick to build."""
    return {
        "train": {
            "log_interval": 200,
            "eval_interval": 1000,
            "seed": 52,
            "epochs": 10000,
            "learning_rate": 0.0002,
            "betas": [0.8, 0.99],
            "eps": 1e-09,
            "batch_size": 16,
            "fp16_run": False,
            "lr_decay": 0.99995,
            "segment_size": 64,
            "init_lr_ratio": 1,
            "warmup_epochs": 0,
            "c_mel": 45,
            "c_kl": 1.0,
            "skip_optimizer": True,
        },
        "data": {
            "training_files": "filelists/train.list",
            "validation_files": "filelists/val.list",
            "max_wav_value": 32768.0,
            "sampling_rate": 8000,
            "filter_length": 64,
            "hop_length": 8,
            "win_length": 64,
            "n_mel_channels": 20,
            "mel_fmin": 0.0,
            "mel_fmax": None,
            "add_blank": True,
            "n_speakers": 4,
            "cleaned_text": True,
            "spk2id": dict(SPEAKERS),
        },
        "model": {
            "use_spk_conditioned_encoder": True,
            "use_noise_scaled_mas": True,
            "use_mel_posterior_encoder": False,
            "use_duration_discriminator": True,
            "inter_channels": 8,
            "hidden_channels": 16,
            "filter_channels": 24,
            "n_heads": 2,
            "n_layers": 3,
            "kernel_size": 3,
            "p_dropout": 0.1,
            "resblock": "1",
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1, 3]],
            "upsample_rates": [4, 2],
            "upsample_initial_channel": 16,
            "upsample_kernel_sizes": [8, 4],
            "n_layers_q": 3,
            "use_spectral_norm": False,
            "gin_channels": 8,
        },
    }


def build_generator(config: dict[str, Any]) -> Synthesizer:
    data = config["data"]
    channels = (
        data["n_mel_channels"] if config["model"].get("use_mel_posterior_encoder") else data["filter_length"] // 2 + 1
    )
    sizes = PublishedSizes(
        n_speakers=data["n_speakers"],
        spectrogram_channels=channels,
        hop_samples=data["hop_length"],
        segment_frames=config["train"]["segment_size"] // data["hop_length"],
    )
    return Synthesizer(published_model_config(config["model"], sizes))


def build_duration_discriminator(config: dict[str, Any]) -> DurationDiscriminator:
    model = config["model"]
    return DurationDiscriminator(
        in_channels=model["hidden_channels"],
        filter_channels=model["hidden_channels"],
        speaker_channels=model["gin_channels"],
    )


def write_checkpoint(path: Path, network: nn.Module, kind: Kind, prefix: str = "module.") -> None:
    """Save a network as the original does: wrapped for data-parallel training, with an optimiser's state beside it."""
    state = {prefix + to_reference_key(key, kind): value for key, value in network.state_dict().items()}
    optimizer = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
        "param_groups": [{"lr": 2e-4, "params": [0]}],
    }
    torch.save({"model": state, "iteration": 12, "optimizer": optimizer, "learning_rate": 0.00019}, path)


def write_training(folder: Path, config: dict[str, Any] | None = None) -> dict[str, Path]:
    """Write G and DUR checkpoints and config.json with random weights; return the paths by name."""
    config = config or small_config()
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "generator": folder / "G_12.pth",
        "duration_discriminator": folder / "DUR_12.pth",
        "config": folder / "config.json",
    }
    generator = build_generator(config)
    for parameter in generator.parameters():  # some start at zero, where a mix-up would not show
        nn.init.normal_(parameter, std=0.1)
    write_checkpoint(paths["generator"], generator, "generator")
    write_checkpoint(paths["duration_discriminator"], build_duration_discriminator(config), "duration_discriminator")
    paths["config"].write_text(json.dumps(config), encoding="utf-8")
    return paths


def write_full_discriminator(path: Path) -> None:
    """Save a waveform discriminator of the published size as a small file: every tensor repeats one number."""
    with torch.device("meta"):
        network = MultiPeriodDiscriminator(DiscriminatorConfig())
    state = {
        f"module.{to_reference_key(key, 'discriminator')}": torch.tensor(float(index)).expand(value.shape)
        for index, (key, value) in enumerate(network.state_dict().items())
    }
    torch.save({"model": state, "iteration": 12, "optimizer": None, "learning_rate": 0.00019}, path)
