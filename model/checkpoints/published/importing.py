"""Import of a Bert-VITS2 1.1 training's files as a voice in this project's format."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoints.checkpoint import CheckpointError, file_sha256, new_folder, save_checkpoint
from model.checkpoints.published.config import ENCODERS, PublishedTraining, read_published_config
from model.checkpoints.published.keys import (
    Kind,
    PublishedFile,
    fit_reference_state,
    published_discriminators,
    read_published_file,
    require_fit,
)
from model.printable import error_line, printable
from model.synthesizer import Synthesizer
from model.text.symbols import SymbolTable

POSTERIOR_INPUT_KEY = "enc_q.pre.weight"


@dataclass(frozen=True)
class PublishedFiles:
    """Files of one training; the discriminators are needed only to continue training."""

    generator: Path
    config: Path
    discriminator: Path | None = None
    duration_discriminator: Path | None = None


@dataclass(frozen=True)
class ImportReport:
    """Tensors per network, and `lines` to display."""

    networks: dict[str, int]
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def import_published(files: PublishedFiles, out: Path) -> ImportReport:
    """Write a voice folder `out` from published files, every weight accounted for.

    Raises CheckpointError naming the file, before anything is written, for weights that do not fit, unsafe pickles, an
    unusable configuration and a folder that is not empty.
    """
    with new_folder(out) as folder:
        tensors, metadata, lines = _read(files)
        save_checkpoint(folder, tensors=tensors, metadata=metadata)
    lines.append(
        f"{out}: speaks ZH and JP with features of {ENCODERS['ZH']['name']} and {ENCODERS['JP']['name']}, EN without"
    )
    return ImportReport({name: len(state) for name, state in tensors.items()}, tuple(lines))


def _read(files: PublishedFiles) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any], list[str]]:
    """Return the networks' tensors under our names, the voice's metadata and the report's lines."""
    generator = read_published_file(files.generator)
    if POSTERIOR_INPUT_KEY not in generator.state:
        raise CheckpointError(
            f"{files.generator}: no {POSTERIOR_INPUT_KEY} among its {len(generator.state)} weights; "
            "is it the generator's file?"
        )
    training = read_published_config(files.config, generator.state[POSTERIOR_INPUT_KEY].shape[1])
    tensors: dict[str, dict[str, Tensor]] = {}
    lines: list[str] = []

    def take(name: str, kind: Kind, path: Path, content: PublishedFile, network: nn.Module) -> None:
        fitting, report = fit_reference_state(network, content.state, kind=kind)
        require_fit(network, report, str(path))
        # Cloned: tensors of published files may be views of one storage.
        tensors[name] = {key: tensor.contiguous().clone() for key, tensor in fitting.items()}
        lines.append(
            f"{path}: {name.replace('_', ' ')}: {report}, "
            f"{sum(each.numel() for each in fitting.values()) / 1e6:.1f} M parameters"
        )

    with torch.device("meta"):
        synthesizer = Synthesizer(training.model)
    discriminators = published_discriminators(training.model)
    take("synthesizer", "generator", files.generator, generator, synthesizer)
    if files.discriminator:
        take(
            "discriminator",
            "discriminator",
            files.discriminator,
            read_published_file(files.discriminator),
            discriminators["discriminator"],
        )
    if files.duration_discriminator:
        take(
            "duration_discriminator",
            "duration_discriminator",
            files.duration_discriminator,
            read_published_file(files.duration_discriminator),
            discriminators["duration_discriminator"],
        )
    lines.append(
        f"{files.config}: {training.spectrogram.sample_rate_hz} Hz, {training.posterior_input} spectrogram as "
        f"posterior input, {training.model.n_speakers} speakers, {len(training.speakers)} named"
    )
    return tensors, _metadata(files, generator, training), lines


def _metadata(files: PublishedFiles, generator: PublishedFile, training: PublishedTraining) -> dict[str, Any]:
    given = [
        path for path in (files.generator, files.discriminator, files.duration_discriminator, files.config) if path
    ]
    return {
        "model": training.model.to_dict(),
        "spectrogram": vars(training.spectrogram),
        "posterior_input": training.posterior_input,
        "symbols": SymbolTable.reference().to_dict(),
        "add_blank": training.add_blank,
        "speakers": list(training.speakers),
        "encoders": {language: dict(source) for language, source in ENCODERS.items()},
        "lexicon": {},
        "step": generator.iteration,
        "source_note": f"imported from the published checkpoint {files.generator.name}",
        "lineage": {"imported": {path.name: file_sha256(path) for path in given}},
        "published": {"train": dict(training.train_section), "learning_rate": generator.learning_rate},
    }


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="voice-factory import-checkpoint", description=__doc__)
    parser.add_argument("--generator", type=Path, required=True, help="G_….pth")
    parser.add_argument("--config", type=Path, required=True, help="the training's config.json")
    parser.add_argument("--discriminator", type=Path, help="D_….pth, to train on")
    parser.add_argument("--duration-discriminator", type=Path, help="DUR_….pth, to train on")
    parser.add_argument("--out", type=Path, required=True, help="voice folder to make")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Import and report; errors are one line and exit status 1, with nothing written."""
    arguments = build_parser().parse_args(argv)
    files = PublishedFiles(
        arguments.generator, arguments.config, arguments.discriminator, arguments.duration_discriminator
    )
    try:
        report = import_published(files, arguments.out)
    except CheckpointError as error:
        sys.exit(error_line(error))
    sys.stdout.write(printable(f"{report}\n"))


if __name__ == "__main__":
    main()
