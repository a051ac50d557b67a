"""The `config.json` of Bert-VITS2 1.1, read into our configurations and written from them.

Much of a published model's shape is fixed rather than configured; `FIXED` is that part.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.audio.settings import SpectrogramSettings
from model.checkpoints.checkpoint import CheckpointError, first_line
from model.config import ModelConfig
from model.settings import ConfigError

# (published, ours) in the model section.
MODEL_KEYS: tuple[tuple[str, str], ...] = (
    ("inter_channels", "inter_channels"),
    ("hidden_channels", "hidden_channels"),
    ("filter_channels", "filter_channels"),
    ("n_heads", "n_heads"),
    ("n_layers", "n_layers"),
    ("kernel_size", "kernel_size"),
    ("p_dropout", "dropout"),
    ("resblock", "resblock"),
    ("resblock_kernel_sizes", "resblock_kernel_sizes"),
    ("resblock_dilation_sizes", "resblock_dilation_sizes"),
    ("upsample_rates", "upsample_rates"),
    ("upsample_initial_channel", "upsample_initial_channels"),
    ("upsample_kernel_sizes", "upsample_kernel_sizes"),
)
DATA_KEYS: tuple[tuple[str, str], ...] = (
    ("sampling_rate", "sample_rate_hz"),
    ("filter_length", "n_fft"),
    ("hop_length", "hop_samples"),
    ("win_length", "win_samples"),
    ("n_mel_channels", "n_mels"),
    ("mel_fmin", "mel_fmin_hz"),
    ("mel_fmax", "mel_fmax_hz"),
)
BERT_CHANNELS = {"ZH": 1024, "JP": 768}
FIXED: dict[str, Any] = {
    "attention_window": 4,
    "flow_kernel_size": 5,
    "posterior_layers": 16,
    "posterior_kernel_size": 5,
    "posterior_dilation_rate": 1,
    "sdp_flows": 4,
    "duration_channels": 256,
    "duration_dropout": 0.5,
    "decoder": "hifigan",
    "bert_channels": BERT_CHANNELS,
}
N_FLOWS, TRANSFORMER_FLOW_LAYERS, SPEAKER_LAYER_INDEX = 4, 6, 2
# Only ours and without weights in a published model, or only used in training.
NOT_IN_WEIGHTS = frozenset(
    {
        "istft_channels",
        "istft_layers",
        "istft_filter_channels",
        "istft_n_fft",
        "frame_prior_channels",
        "duration_dropout",
        "sample_rate_hz",
        "mel_fmin_hz",
        "mel_fmax_hz",
    }
)  # the last three are in the data section
# The text encoders that published models were trained with; English had none.
ENCODERS: dict[str, dict[str, Any]] = {
    "ZH": {
        "kind": "hub",
        "name": "hfl/chinese-roberta-wwm-ext-large",
        "revision": "a25cc9e05974bd9687e528edd516f2cfdb3f5db9",
        "layer": -3,
    },
    "JP": {
        "kind": "hub",
        "name": "tohoku-nlp/bert-base-japanese-v3",
        "revision": "65243d6e5629b969c77309f217bd7b1a79d43c7e",
        "layer": -3,
    },
    "EN": {"kind": "none"},
}
TRAIN_SECTION: dict[str, Any] = {
    "log_interval": 200,
    "eval_interval": 1000,
    "seed": 52,
    "epochs": 10000,
    "learning_rate": 3e-4,
    "betas": [0.8, 0.99],
    "eps": 1e-9,
    "batch_size": 24,
    "fp16_run": False,
    "lr_decay": 0.999875,
    "init_lr_ratio": 1,
    "warmup_epochs": 0,
    "c_mel": 45,
    "c_kl": 1.0,
    "skip_optimizer": True,
}


@dataclass(frozen=True, kw_only=True)
class PublishedSizes:
    """Sizes of a published model set by its data: tables, spectrogram channels, hop in samples, segment in frames."""

    n_speakers: int
    spectrogram_channels: int
    hop_samples: int
    segment_frames: int
    n_symbols: int = 112
    n_tones: int = 11
    n_languages: int = 3


@dataclass(frozen=True)
class PublishedTraining:
    """Configuration of a published training in our terms; `speakers` by id."""

    model: ModelConfig
    spectrogram: SpectrogramSettings
    posterior_input: str
    add_blank: bool
    speakers: tuple[str, ...]
    train_section: Mapping[str, Any]


def published_model_config(section: Mapping[str, Any], sizes: PublishedSizes) -> ModelConfig:
    """Translate the model section of a published configuration, its defaults included.

    Raises ConfigError for missing keys, impossible shapes and the shared flow, which the published code cannot train.
    """
    if missing := [name for name, _ in MODEL_KEYS if name not in section]:
        raise ConfigError(f"model: no {', '.join(missing)}")
    if section.get("flow_share_parameter", False):
        raise ConfigError(
            "model: flow_share_parameter is true, which the published code cannot train; "
            "such weights have no known layout"
        )
    speaker_channels = section.get("gin_channels", 0)
    n_flow_layers = section.get("n_flow_layer", N_FLOWS)
    transformer = section.get("use_transformer_flow", True)
    values = {
        **FIXED,
        **dataclasses.asdict(sizes),
        **{own: section[name] for name, own in MODEL_KEYS},
        "resblock": str(section["resblock"]),
        "sdp_channels": section["hidden_channels"],
        "speaker_channels": speaker_channels,
        "use_reference_encoder": sizes.n_speakers == 0 and speaker_channels > 0,
        "speaker_layer_index": SPEAKER_LAYER_INDEX
        if section.get("use_spk_conditioned_encoder", True) and speaker_channels
        else -1,
        "flow": "transformer" if transformer else "residual",
        # One number: flows in the transformer kind, layers in the residual kind.
        "n_flows": n_flow_layers if transformer else N_FLOWS,
        "flow_layers": section.get("n_layers_trans_flow", TRANSFORMER_FLOW_LAYERS) if transformer else n_flow_layers,
        "use_sdp": section.get("use_sdp", True),
        "noise_scaled": section.get("use_noise_scaled_mas", False),
    }
    return ModelConfig.from_dict(values)


def read_published_config(path: Path, posterior_channels: int) -> PublishedTraining:
    """Read a published `config.json`; `posterior_channels` is the input width of the posterior encoder's weights.

    Raises CheckpointError naming the file and the remedy.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not readable as JSON ({first_line(error)}); get the training's own config.json"
        ) from error
    missing = [
        name
        for name in ("train", "data", "model")
        if not isinstance(content, dict) or not isinstance(content.get(name), dict)
    ]
    if missing:
        raise CheckpointError(f"{path}: no section {', '.join(missing)}; is it the training's config.json?")
    try:
        return _training(content["train"], content["data"], content["model"], posterior_channels)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path}: {first_line(error)}; get the config.json that the weights were trained with"
        ) from error


def _training(
    train: Mapping[str, Any], data: Mapping[str, Any], model: Mapping[str, Any], posterior_channels: int
) -> PublishedTraining:
    needed = [name for name, own in DATA_KEYS if not own.startswith("mel_f") and name not in data]
    needed += [name for name in ("n_speakers", "spk2id") if name not in data] + [
        name for name in ("segment_size",) if name not in train
    ]
    if needed:
        raise ConfigError(f"no {', '.join(needed)} in train or data")
    spectrogram = SpectrogramSettings.from_dict(
        {own: data[name] for name, own in DATA_KEYS if name in data}, where="data"
    )
    inputs = {spectrogram.n_frequencies: "linear", spectrogram.n_mels: "mel"}
    if posterior_channels not in inputs:
        raise ConfigError(
            f"the posterior encoder's weights read {posterior_channels} channels, neither filter_length "
            f"{spectrogram.n_fft} // 2 + 1 = {spectrogram.n_frequencies} nor n_mel_channels {spectrogram.n_mels}"
        )
    if train["segment_size"] % spectrogram.hop_samples:
        raise ConfigError(
            f"train.segment_size {train['segment_size']} is not a multiple of data.hop_length {spectrogram.hop_samples}"
        )
    sizes = PublishedSizes(
        n_speakers=data["n_speakers"],
        spectrogram_channels=posterior_channels,
        hop_samples=spectrogram.hop_samples,
        segment_frames=train["segment_size"] // spectrogram.hop_samples,
    )
    return PublishedTraining(
        published_model_config(model, sizes),
        spectrogram,
        inputs[posterior_channels],
        bool(data.get("add_blank", True)),
        _speakers(data["spk2id"], data["n_speakers"]),
        train,
    )


def _speakers(ids: Mapping[str, int], n_speakers: int) -> tuple[str, ...]:
    """Return the speakers' names by id; ids without a name become `speaker ID`."""
    names = {number: name for name, number in ids.items()}
    if len(names) != len(ids):
        raise ConfigError("spk2id gives one id to several speakers")
    if n_speakers and not all(isinstance(number, int) and 0 <= number < n_speakers for number in names):
        raise ConfigError(f"spk2id has ids outside 0..{n_speakers - 1}, n_speakers being {n_speakers}")
    if not names:
        return tuple(f"speaker {number}" for number in range(max(1, n_speakers)))
    return tuple(names.get(number, f"speaker {number}") for number in range(max(names) + 1))


def published_config(
    model: ModelConfig,
    spectrogram: SpectrogramSettings,
    *,
    add_blank: bool,
    speakers: Sequence[str],
    posterior_input: str,
    train_section: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the published configuration of one of our models; CheckpointError names what it cannot express."""
    section = _model_section(model, posterior_input)
    sizes = PublishedSizes(
        n_speakers=model.n_speakers,
        spectrogram_channels=model.spectrogram_channels,
        hop_samples=spectrogram.hop_samples,
        segment_frames=model.segment_frames,
    )
    try:
        nearest = published_model_config(section, sizes)
    except ConfigError as error:
        raise CheckpointError(f"the published format cannot express this voice: {first_line(error)}") from error
    if problems := _lost_features(model, nearest):
        raise CheckpointError(
            f"the published format cannot express this voice: {'; '.join(problems)}; keep it in this project's format"
        )
    data = {name: getattr(spectrogram, own) for name, own in DATA_KEYS}
    return {
        "train": {
            **TRAIN_SECTION,
            **(train_section or {}),
            "segment_size": model.segment_frames * spectrogram.hop_samples,
        },
        "data": {
            "max_wav_value": 32768.0,
            **data,
            "add_blank": add_blank,
            "n_speakers": model.n_speakers,
            "cleaned_text": True,
            "use_mel_posterior_encoder": posterior_input == "mel",
            "spk2id": {name: number for number, name in enumerate(speakers)},
        },
        "model": section,
    }


def _model_section(model: ModelConfig, posterior_input: str) -> dict[str, Any]:
    values = model.to_dict()
    transformer = model.flow == "transformer"
    return {
        "use_spk_conditioned_encoder": model.speaker_layer_index >= 0,
        "use_noise_scaled_mas": model.noise_scaled,
        "use_mel_posterior_encoder": posterior_input == "mel",
        "use_duration_discriminator": True,
        **{name: values[own] for name, own in MODEL_KEYS},
        "n_layers_q": 3,
        "use_spectral_norm": False,
        "gin_channels": model.speaker_channels,
        "use_sdp": model.use_sdp,
        "use_transformer_flow": transformer,
        "n_flow_layer": model.n_flows if transformer else model.flow_layers,
        **({"n_layers_trans_flow": model.flow_layers} if transformer else {}),
    }


def _lost_features(model: ModelConfig, nearest: ModelConfig) -> list[str]:
    """Describe every feature of `model` that its nearest published configuration lacks."""
    unused = set(NOT_IN_WEIGHTS) | (set() if model.use_sdp else {"sdp_channels", "sdp_flows"})
    if not model.effective_speaker_channels:
        unused.add("speaker_layer_index")
    if model.decoder != "hifigan":  # HiFi-GAN's sizes are unused
        unused |= {own for name, own in MODEL_KEYS if name.startswith(("resblock", "upsample"))}
    problems = []
    for field in dataclasses.fields(ModelConfig):
        ours, theirs = getattr(model, field.name), getattr(nearest, field.name)
        if field.name == "bert_channels":
            problems += [
                f"bert_channels of {language} {size} (published: {theirs.get(language, 'none')})"
                for language, size in ours.items()
                if theirs.get(language) != size
            ]
        elif field.name not in unused and ours != theirs:
            problems.append(f"{field.name} {ours} (published: {theirs})")
    few = model.flow == "transformer" and model.effective_speaker_channels and model.flow_layers <= SPEAKER_LAYER_INDEX
    return [
        *problems,
        *([f"flow_layers {model.flow_layers} (published: at least {SPEAKER_LAYER_INDEX + 1})"] if few else []),
    ]
