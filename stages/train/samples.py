"""Samples during training: validation utterances spoken and resynthesised, with pictures of their alignment."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from model.audio.spectrogram_torch import log_mel_spectrogram
from model.networks.random_draws import isolated_random_state
from stages.train.validation import Validator

NOISE_SCALE = 0.3  # low, so that samples differ by progress and not by chance
MAX_NAME_BYTES = 255 - len(".resynthesis.wav")
RANGE_NEPERS = 8.0  # 70 dB


def write_samples(folder: Path, validator: Validator, n_utterances: int) -> None:
    """Write samples of the first validation utterances to `folder`; the same weights give the same bytes.

    ID.wav is spoken from the text, ID.resynthesis.wav decoded from the recording, and ID.png shows the phones over the
    spectrograms of both the recording and the spoken text.
    """
    for index in range(min(n_utterances, len(validator.source))):
        with isolated_random_state(validator.trainer.device):
            _write_sample(folder, validator, index)


@torch.no_grad()
def _write_sample(folder: Path, validator: Validator, index: int) -> None:
    trainer, network = validator.trainer, validator.trainer.voice_network()
    batch, durations = validator.batch(index)
    spectrogram = trainer.posterior_input(batch)
    inputs = batch.inputs(spectrogram, with_speakers=network.config.n_speakers > 0, durations=durations)
    spoken = validator.speak(batch, noise_scale=NOISE_SCALE, sdp_ratio=0.0)
    if durations is None:
        durations = network(inputs, decode=False).durations
    name = file_stem(validator.source.row(index)["utterance_id"])
    rate_hz = trainer.spectrogram.sample_rate_hz
    resynthesis = network.reconstruct(spectrogram, batch.frame_lengths, inputs.speaker_ids)
    for suffix, waveform in (("", spoken.waveform[0, 0]), (".resynthesis", resynthesis[0, 0])):
        encoded = io.BytesIO()  # via memory, so that a full disk raises a plain OSError
        soundfile.write(
            encoded, waveform.nan_to_num().clamp(-1, 1).cpu().numpy(), rate_hz, format="WAV", subtype="PCM_16"
        )
        (folder / f"{name}{suffix}.wav").write_bytes(encoded.getvalue())
    symbols = validator.source.symbols.symbols
    phones = [symbols[phone] for phone in batch.phone_ids[0].tolist()]
    # Padded and without NaN: a diverged or nearly silent voice must not stop the run.
    waveforms = [
        functional.pad(waveform.nan_to_num(), (0, max(0, trainer.spectrogram.min_samples - waveform.shape[1])))
        for waveform in (batch.waveform, spoken.waveform[:, 0])
    ]
    mels = [
        log_mel_spectrogram(waveform, trainer.spectrogram, trainer.filterbank)[0].cpu().numpy()
        for waveform in waveforms
    ]
    panels = [("recording", mels[0], _frames(durations)), ("spoken", mels[1], _frames(spoken.durations))]
    write_alignment(folder / f"{name}.png", phones, panels, trainer.spectrogram.hop_samples / rate_hz)


def file_stem(utterance_id: str) -> str:
    """Return a file name without suffix, short enough for every file system."""
    name = re.sub(r"[^\w.-]+", "-", utterance_id)
    if len(encoded := name.encode("utf-8")) <= MAX_NAME_BYTES:
        return name
    start = encoded[: MAX_NAME_BYTES - 9].decode("utf-8", "ignore")
    return f"{start}-{hashlib.sha256(utterance_id.encode('utf-8')).hexdigest()[:8]}"


def _frames(durations: Tensor) -> npt.NDArray[np.int64]:
    return durations[0].long().clamp_min(0).cpu().numpy()


def write_alignment(
    path: Path,
    phones: list[str],
    panels: list[tuple[str, npt.NDArray[np.float32], npt.NDArray[np.int64]]],
    frame_seconds: float,
) -> None:
    """Draw each panel's log-mel spectrogram (C, T) with the `phones` (P,) at its durations (P,) in frames.

    All panels share one time axis.
    """
    figure = Figure(figsize=(11, 2.2 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (title, mel, durations) in zip(axes, panels, strict=True):
        n_bands, n_frames = mel.shape
        axis.imshow(
            mel,
            origin="lower",
            aspect="auto",
            cmap="magma",
            interpolation="nearest",
            vmin=mel.max() - RANGE_NEPERS,
            vmax=mel.max(),
            extent=(0, n_frames * frame_seconds, 0, n_bands),
        )
        ends = np.minimum(np.cumsum(durations), n_frames) * frame_seconds
        axis.vlines(ends, 0, n_bands, color="white", linewidth=0.6, alpha=0.7)
        for position, (phone, start, end) in enumerate(
            zip(phones, np.concatenate([[0.0], ends[:-1]]), ends, strict=True)
        ):
            if end > start:
                axis.annotate(
                    phone,
                    ((start + end) / 2, 0.02 + 0.1 * (position % 2)),
                    xycoords=("data", "axes fraction"),
                    ha="center",
                    color="white",
                    fontsize=7,
                    parse_math=False,
                )
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_ylabel("mel band", fontsize=8)
    axes[-1].set_xlim(0, max(mel.shape[1] for _, mel, _ in panels) * frame_seconds)
    axes[-1].set_xlabel("seconds", fontsize=8)
    figure.savefig(path, dpi=80, metadata={"Software": None})
