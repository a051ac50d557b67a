"""Export of a voice as the files of a Bert-VITS2 1.1 training: G, D and DUR checkpoints and config.json."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.audio.settings import SpectrogramSettings
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, load_checkpoint, new_folder
from model.checkpoints.published.config import BERT_CHANNELS, published_config
from model.checkpoints.published.keys import Kind, published_discriminators, write_published_file
from model.checkpoints.transfer import TONE_TABLE
from model.config import ModelConfig
from model.printable import error_line, printable
from model.text.symbols import SymbolTable

FILES: tuple[tuple[str, Kind, str], ...] = (
    ("synthesizer", "generator", "G"),
    ("discriminator", "discriminator", "D"),
    ("duration_discriminator", "duration_discriminator", "DUR"),
)


def export_published(
    voice: Path, out: Path, *, drop_additions: bool = False, generator_only: bool = False
) -> list[Path]:
    """Write the networks of a voice folder to `out` in the published layout and return the files.

    drop_additions: leave out tones that the published table lacks (the high pitch of Japanese). Missing BERT
    projections become zeros, which has no effect. Raises CheckpointError, before anything is written, naming what the
    published format cannot express.
    """
    checkpoint = load_checkpoint(voice)
    metadata = checkpoint.metadata
    training = metadata.get("published", {})
    model, state = _with_published_tables(metadata, checkpoint.tensors["synthesizer"], drop_additions)
    config = published_config(
        model,
        SpectrogramSettings(**metadata["spectrogram"]),
        add_blank=metadata["add_blank"],
        speakers=metadata["speakers"],
        posterior_input=metadata["posterior_input"],
        train_section=training.get("train"),
    )
    tensors: dict[str, Mapping[str, Tensor]] = {"synthesizer": _with_zero_projections(state, model)}
    if not generator_only:
        tensors.update(_discriminators(checkpoint, model))
    config["model"]["use_duration_discriminator"] = "duration_discriminator" in tensors
    learning_rate = training.get("learning_rate") or config["train"]["learning_rate"]
    step, names = metadata["step"], []
    with new_folder(out) as folder:
        for name, kind, letters in FILES:
            if name in tensors:
                names.append(f"{letters}_{step}.pth")
                write_published_file(
                    folder / names[-1], tensors[name], kind=kind, iteration=step, learning_rate=learning_rate
                )
        names.append("config.json")
        (folder / names[-1]).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [out / name for name in names]


def _with_published_tables(
    metadata: Mapping[str, Any], state: Mapping[str, Tensor], drop_additions: bool
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return configuration and weights with the published symbol and tone tables."""
    model, symbols, published = (
        ModelConfig.from_dict(metadata["model"]),
        SymbolTable.from_dict(metadata["symbols"]),
        SymbolTable.reference(),
    )
    if symbols.symbols != published.symbols or symbols.languages != published.languages:
        raise CheckpointError(
            "the published format cannot express this voice: its symbols or languages are not the published ones; "
            "keep it in this project's format"
        )
    if symbols.tone_count == published.tone_count:
        return model, dict(state)
    if not drop_additions:
        raise CheckpointError(
            f"the published format cannot express this voice: its table has {symbols.tone_count} tones, the published "
            f"one {published.tone_count}; pass --drop-additions to leave the others out"
        )
    rows = state[TONE_TABLE][: published.tone_count].clone()
    return replace(model, n_tones=published.tone_count), {**state, TONE_TABLE: rows}


def _with_zero_projections(state: Mapping[str, Tensor], model: ModelConfig) -> dict[str, Tensor]:
    """Add zero projections for languages that have features in the published format but not in the voice."""
    zeros = {}
    for language, size in BERT_CHANNELS.items():
        if language not in model.bert_channels:
            zeros[f"text_encoder.bert_projections.{language}.weight"] = torch.zeros(model.hidden_channels, size, 1)
            zeros[f"text_encoder.bert_projections.{language}.bias"] = torch.zeros(model.hidden_channels)
    return {**state, **zeros}


def _discriminators(checkpoint: Checkpoint, model: ModelConfig) -> dict[str, Mapping[str, Tensor]]:
    """Return the discriminators' weights; CheckpointError unless they have the published size."""
    states: dict[str, Mapping[str, Tensor]] = {}
    for name, network in published_discriminators(model).items():
        if name not in checkpoint.tensors:
            continue
        shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
        if {key: tensor.shape for key, tensor in checkpoint.tensors[name].items()} != shapes:
            raise CheckpointError(
                f"the published format cannot express this voice's {name.replace('_', ' ')}: it is not of the "
                "published size; pass --generator-only to leave the discriminators out"
            )
        states[name] = checkpoint.tensors[name]
    return states


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="voice-factory export-checkpoint", description=__doc__)
    parser.add_argument("--voice", type=Path, default=Path("voice"), help="folder of a trained voice (default: voice)")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--drop-additions", action="store_true", help="leave out the tones that the published table lacks"
    )
    parser.add_argument("--generator-only", action="store_true", help="leave out the discriminators")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Export and list the files; errors are one line and exit status 1, with nothing written."""
    arguments = build_parser().parse_args(argv)
    try:
        paths = export_published(
            arguments.voice,
            arguments.out,
            drop_additions=arguments.drop_additions,
            generator_only=arguments.generator_only,
        )
    except CheckpointError as error:
        sys.exit(error_line(error))
    sys.stdout.write(printable("".join(f"{path}\n" for path in paths)))


if __name__ == "__main__":
    main()
