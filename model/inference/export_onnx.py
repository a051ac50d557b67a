"""Export of a voice as two ONNX graphs that need neither torch nor this project: text to durations, durations to
waveform.

The split lets callers read and change the duration of every phone. The durations also determine the size of the noise
that the second graph takes: all noise is an input, so that the same inputs give the same speech in every runtime. Text
features are not part of the graphs; they come from separate text encoders.

Legend: P phones, T frames, S samples, C hidden channels, Z latent channels. The batch is one utterance.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from model.checkpoints.checkpoint import CheckpointError, checkpoint_sha256, new_folder
from model.inference.onnx_voice import BERT_PREFIX, SPEECH_FILE, TEXT_FILE, VOICE_FILE
from model.inference.voice import Voice
from model.networks.decoders.hifigan import remove_weight_norms
from model.networks.decoders.source_filter import SourceFilterDecoder
from model.networks.text_encoder import TextEncoding
from model.printable import error_line, printable
from model.synthesizer import Synthesizer, frames_of_phones

OPSET = 20
EXAMPLE_PHONES, EXAMPLE_FRAMES = 12, 40  # arbitrary: the axes are dynamic
PHONES, FRAMES = torch.export.Dim("phones", min=2, max=65_535), torch.export.Dim("frames", min=2, max=1_048_575)


class TextGraph(nn.Module):
    """Graph from ids (1, P), features (1, C, P) by language and speaker (1,) to durations (1, P) and the prior of every
    phone.
    """

    def __init__(self, network: Synthesizer) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        phone_ids: Tensor,
        tone_ids: Tensor,
        language_ids: Tensor,
        bert: Mapping[str, Tensor],
        length_scale: Tensor,
        speaker_ids: Tensor | None = None,
        sdp: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return durations (1, P), hidden states (1, C, P), prior means and log standard deviations (1, Z, P)."""
        network = self.network
        speaker = network.speaker_vector(speaker_ids)
        lengths = phone_ids.new_full((1,), phone_ids.shape[1])
        text = network.text_encoder(phone_ids, lengths, tone_ids, language_ids, bert, speaker)
        log_durations = network.duration_predictor(text.hidden, text.phone_mask, speaker)
        if sdp is not None:
            predictor = network.stochastic_duration_predictor
            sampled = predictor.sample(
                text.hidden,
                text.phone_mask,
                speaker,
                noise_scale=sdp["duration_noise_scale"],
                noise=sdp["duration_noise"],
            )
            log_durations = sampled * sdp["sdp_ratio"] + log_durations * (1 - sdp["sdp_ratio"])
        return (
            frames_of_phones(log_durations, text.phone_mask, length_scale),
            text.hidden,
            text.prior_mean,
            text.prior_log_std,
        )


class SpeechGraph(nn.Module):
    """Graph from the outputs of TextGraph and noise to a waveform (1, S)."""

    def __init__(self, network: Synthesizer) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        durations: Tensor,
        hidden: Tensor,
        prior_mean: Tensor,
        prior_log_std: Tensor,
        latent_noise: Tensor,
        speaker_ids: Tensor | None = None,
        source_noise: Tensor | None = None,
    ) -> Tensor:
        """Return the waveform for durations (1, P) that sum to the T of latent_noise (1, Z, T); source_noise is (1, T,
        hop).
        """
        text = TextEncoding(hidden, prior_mean, prior_log_std, torch.ones_like(hidden[:, :1]))
        noise = None if source_noise is None else source_noise.flatten(1).unsqueeze(1)
        speaker = self.network.speaker_vector(speaker_ids)
        return self.network.speak(
            text, durations, torch.ones_like(latent_noise[:, :1]), speaker, latent_noise, noise
        ).waveform.squeeze(1)


def export_onnx(voice: Path, out: Path) -> list[Path]:
    """Write a voice folder's graphs and voice.json, the metadata they need, to `out` and return the files.

    Raises CheckpointError, before anything is written, for a voice that cannot be exported.
    """
    speaker = Voice(voice)
    network, config = speaker.network, speaker.config
    if config.use_reference_encoder:
        raise CheckpointError(
            f"{voice}: takes its speaker from a recording (use_reference_encoder), which the ONNX graphs do not; "
            "export a voice with named speakers"
        )
    remove_weight_norms(network)
    facts = {
        "voice_sha256": checkpoint_sha256(voice),
        "sample_rate_hz": str(speaker.spectrogram.sample_rate_hz),
        "hop_samples": str(config.hop_samples),
        "speakers": json.dumps(speaker.speakers, ensure_ascii=False),
    }
    with new_folder(out) as folder:
        _write(
            folder / TEXT_FILE,
            TextGraph(network),
            _text_inputs(network),
            ["durations", "hidden", "prior_mean", "prior_log_std"],
            facts,
        )
        _write(folder / SPEECH_FILE, SpeechGraph(network), _speech_inputs(network), ["waveform"], facts)
        description = {"voice_sha256": facts["voice_sha256"], "metadata": speaker.metadata}
        (folder / VOICE_FILE).write_text(
            json.dumps(description, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return [out / name for name in (TEXT_FILE, SPEECH_FILE, VOICE_FILE)]


def _text_inputs(network: Synthesizer) -> dict[str, Any]:
    """Return example inputs of the first graph."""
    config, n_phones = network.config, EXAMPLE_PHONES
    ids = torch.zeros(1, n_phones, dtype=torch.long)
    inputs: dict[str, Any] = {
        "phone_ids": ids,
        "tone_ids": ids.clone(),
        "language_ids": ids.clone(),
        "bert": {language: torch.zeros(1, size, n_phones) for language, size in config.bert_channels.items()},
        "length_scale": torch.tensor(1.0),
    }
    if config.n_speakers:
        inputs["speaker_ids"] = torch.zeros(1, dtype=torch.long)
    if config.use_sdp:
        inputs["sdp"] = {
            "duration_noise": torch.zeros(1, 2, n_phones),
            "duration_noise_scale": torch.tensor(0.8),
            "sdp_ratio": torch.tensor(0.2),
        }
    return inputs


def _speech_inputs(network: Synthesizer) -> dict[str, Any]:
    """Return example inputs of the second graph."""
    config, n_phones, n_frames = network.config, EXAMPLE_PHONES, EXAMPLE_FRAMES
    inputs = {
        "durations": torch.full((1, n_phones), 3),
        "hidden": torch.zeros(1, config.hidden_channels, n_phones),
        "prior_mean": torch.zeros(1, config.inter_channels, n_phones),
        "prior_log_std": torch.zeros(1, config.inter_channels, n_phones),
        "latent_noise": torch.zeros(1, config.inter_channels, n_frames),
    }
    if config.n_speakers:
        inputs["speaker_ids"] = torch.zeros(1, dtype=torch.long)
    if isinstance(network.decoder, SourceFilterDecoder):
        inputs["source_noise"] = torch.zeros(1, n_frames, config.hop_samples)
    return inputs


def _free_axes(name: str) -> dict[int, torch.export.Dim]:
    """Return the dynamic axes of an input."""
    if name in ("phone_ids", "tone_ids", "language_ids", "durations"):
        return {1: PHONES}
    if name in ("hidden", "prior_mean", "prior_log_std", "duration_noise") or name.startswith(BERT_PREFIX):
        return {2: PHONES}
    return {"latent_noise": {2: FRAMES}, "source_noise": {1: FRAMES}}.get(name, {})


def _flat_names(inputs: Mapping[str, Any]) -> list[str]:
    """Return the names of the inputs in the graph: features are bert_EN, bert_ZH, …"""
    names: list[str] = []
    for name, value in inputs.items():
        if name == "bert":
            names += [f"{BERT_PREFIX}{language}" for language in value]
        else:
            names += value if name == "sdp" else [name]
    return names


def _write(path: Path, graph: nn.Module, inputs: dict[str, Any], outputs: list[str], facts: dict[str, str]) -> None:
    """Export one graph; the same voice gives the same bytes."""
    axes = iter([_free_axes(name) for name in _flat_names(inputs)])
    shapes = {
        name: {key: next(axes) for key in value} if isinstance(value, dict) else next(axes)
        for name, value in inputs.items()
    }
    # These log every step, and warn of packages that no voice needs.
    for logger in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(),
            kwargs=inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=_flat_names(inputs),
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"{path}: torch.onnx.export returned no program")
    content = program.model_proto
    graph_proto = content.graph
    parts = (graph_proto, *graph_proto.node, *graph_proto.value_info, *graph_proto.input, *graph_proto.output)
    for part in parts:
        part.ClearField("metadata_props")  # source locations of the operations
        part.ClearField("doc_string")
    onnx.helper.set_model_props(content, facts)
    onnx.checker.check_model(content)
    onnx.save(content, path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; errors are one line and exit status 1."""
    parser = argparse.ArgumentParser(prog="voice-factory export-onnx", description=__doc__)
    parser.add_argument(
        "--voice", type=Path, default=Path("voice"), help="folder of the trained voice (default: voice)"
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder for text.onnx, speech.onnx and voice.json")
    arguments = parser.parse_args(argv)
    try:
        written = export_onnx(arguments.voice, arguments.out)
    except CheckpointError as error:
        sys.exit(error_line(error))
    sys.stderr.write(printable("".join(f"{path}: {path.stat().st_size / 1e6:.1f} MB\n" for path in written)))


if __name__ == "__main__":
    main()
