"""Voice that runs the ONNX graphs of `model.inference.export_onnx` in onnxruntime.

The text front ends and text encoders of this project provide the inputs of the graphs. The random draws are those of
`model.inference.voice.Voice`, so that both give the same speech up to rounding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError, first_line
from model.inference.voice import AbstractVoice, SpeakingStyle, Synthesis
from model.networks.random_draws import isolated_random_state

TEXT_FILE, SPEECH_FILE, VOICE_FILE = "text.onnx", "speech.onnx", "voice.json"
BERT_PREFIX = "bert_"


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU. Raises CheckpointError for an unreadable file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Spinning threads would take CPU time from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many types without a common base
        raise CheckpointError(
            f"{path}: not a graph that onnxruntime can read ({first_line(error)}); export it again"
        ) from None


class OnnxVoice(AbstractVoice):
    """Voice in a folder of ONNX graphs, with its text front ends and encoders."""

    def __init__(self, folder: Path) -> None:
        try:
            description = json.loads((folder / VOICE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{folder / VOICE_FILE}: unreadable ({first_line(error)}); export the voice again"
            ) from None
        super().__init__(description["metadata"])
        self.text, self.speech = (open_session(folder / name) for name in (TEXT_FILE, SPEECH_FILE))
        for name, session in ((TEXT_FILE, self.text), (SPEECH_FILE, self.speech)):
            if session.get_modelmeta().custom_metadata_map.get("voice_sha256") != description["voice_sha256"]:
                raise CheckpointError(
                    f"{folder / name}: belongs to another voice than {VOICE_FILE}; export the voice again"
                )

    def _synthesise(
        self, ids: Sequence[Sequence[int]], bert: dict[str, Tensor], speaker_ids: Tensor | None, style: SpeakingStyle
    ) -> Synthesis:
        n_phones = len(ids[0])
        inputs: dict[str, Any] = {
            name: np.array([list(values)])
            for name, values in zip(("phone_ids", "tone_ids", "language_ids"), ids, strict=True)
        }
        for language, channels in self.config.bert_channels.items():
            features = bert.get(language)
            inputs[BERT_PREFIX + language] = (
                np.zeros((1, channels, n_phones), np.float32) if features is None else features.numpy()
            )
        inputs["length_scale"] = np.array(style.length_scale, np.float32)
        speaker = {} if speaker_ids is None else {"speaker_ids": speaker_ids.numpy()}
        with isolated_random_state(self.device, style.seed):
            if self.config.use_sdp:
                # Without the stochastic predictor, the torch voice draws no noise for it.
                draw = torch.randn if style.sdp_ratio > 0 else torch.zeros
                inputs["duration_noise"] = draw(1, 2, n_phones).numpy()
                inputs["duration_noise_scale"] = np.array(style.duration_noise_scale, np.float32)
                inputs["sdp_ratio"] = np.array(style.sdp_ratio, np.float32)
            durations, hidden, prior_mean, prior_log_std = self.text.run(None, {**inputs, **speaker})
            n_frames = max(int(durations.sum()), 1)
            latent_noise = torch.randn(1, self.config.inter_channels, n_frames).numpy() * np.float32(style.noise_scale)
            if self.config.decoder == "source_filter":
                speaker["source_noise"] = torch.randn(1, n_frames, self.config.hop_samples).numpy()
        (waveform,) = self.speech.run(
            None,
            {
                "durations": durations,
                "hidden": hidden,
                "prior_mean": prior_mean,
                "prior_log_std": prior_log_std,
                "latent_noise": latent_noise,
                **speaker,
            },
        )
        return Synthesis(waveform[0], durations[0])
