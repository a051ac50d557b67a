"""Synthesise a text with a trained voice into a WAV file."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from model.bert.encoder import use_reproducible_kernels
from model.bert.tokenizers import EncoderError
from model.printable import error_line, printable
from model.text.errors import TextError


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    from model.inference.voice import SpeakingStyle

    parser = argparse.ArgumentParser(
        prog="voice-factory say",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--text", required=True, help="text to synthesise")
    parser.add_argument("--out", type=Path, default=Path("say.wav"), help="WAV file to write")
    parser.add_argument(
        "--voice", type=Path, default=Path("voice"), help="folder of a trained voice or of its ONNX graphs"
    )
    parser.add_argument("--language", default="EN", help="language code of the text")
    parser.add_argument("--speaker", help="speaker name (default: the voice's first)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, …")
    for field in dataclasses.fields(SpeakingStyle):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=argparse.SUPPRESS,
            help="see model.inference.voice.SpeakingStyle (default: the voice's)",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the synthesised text, sentence by sentence; errors are one line and exit status 1."""
    use_reproducible_kernels()  # before torch is imported: text features are then bit-identical to those of training
    import numpy as np
    import soundfile

    from model.checkpoints.checkpoint import CheckpointError
    from model.inference.onnx_voice import TEXT_FILE, OnnxVoice
    from model.inference.sentences import split_text
    from model.inference.voice import SpeakingStyle, Voice

    arguments = build_parser().parse_args(argv)
    overrides = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(SpeakingStyle)
        if field.name in arguments
    }
    if not arguments.voice.is_dir():
        sys.exit(error_line(f"{arguments.voice}: no voice there; train one with `make run`, or pass --voice FOLDER"))
    try:
        voice = (
            OnnxVoice(arguments.voice)
            if (arguments.voice / TEXT_FILE).is_file()
            else Voice(arguments.voice, arguments.device)
        )
        style = dataclasses.replace(voice.style, **overrides)
        pieces = split_text(arguments.text, arguments.language)
        spoken = [
            voice.say(piece.text, language=arguments.language, speaker=arguments.speaker, style=style)
            for piece in pieces
        ]
        rate_hz = spoken[0].sample_rate_hz
        pauses = [np.zeros(round(piece.pause_seconds * style.length_scale * rate_hz), np.float32) for piece in pieces]
        samples = np.concatenate(
            [part for speech, pause in zip(spoken, pauses, strict=True) for part in (speech.samples, pause)]
        )
        soundfile.write(arguments.out, samples, rate_hz, subtype="PCM_16")
    except (CheckpointError, EncoderError, TextError, ValueError, OSError) as error:
        sys.exit(error_line(error))
    took = sum(speech.wall_seconds for speech in spoken)
    normalised = " ".join(speech.normalised for speech in spoken)
    sys.stderr.write(
        printable(f"{arguments.out}: {len(samples) / rate_hz:.2f} s of speech in {took:.2f} s: {normalised}\n")
    )


if __name__ == "__main__":
    main()
