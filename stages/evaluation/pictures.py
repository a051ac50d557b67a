"""Pictures of an utterance: its spectrograms side by side, and where each phone lies in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from model.spectrogram import SpectrogramSettings, linear_spectrogram, log_mel, mel_filterbank
from stages.measuring.rendition import (
    RECORDING,
    RESYNTHESIS,
    SYNTHESIS,
    VERSIONS,
    FloatArray,
    IntArray,
    Rendition,
)

FRAME_SECONDS = 0.008
N_MELS = 80
RANGE_DB = 70.0  # below the loudest point of the three pictures together
INK = "#6f7683"  # readable on a white and on a dark page: the pictures have no ground of their own
DOTS_PER_INCH = 110
WIDTH_INCHES = 11.0
N_COLOURS = 128
TITLES = {RECORDING: "Recording", RESYNTHESIS: "Resynthesis", SYNTHESIS: "Synthesis"}


def write_spectrogram_picture(path: Path, rendition: Rendition) -> None:
    """Write a PNG of the three log-mel spectrograms, to the same scales of time, frequency and level."""
    spectrograms = {
        version: log_mel_db(rendition.waveform(version), rendition.sample_rate_hz) for version in VERSIONS
    }
    top_db = max(float(spectrogram.max()) for spectrogram in spectrograms.values())
    figure = Figure(figsize=(WIDTH_INCHES, 2.5), dpi=DOTS_PER_INCH)
    # Panels as wide as the sounds are long, so that a second has the same width in each.
    widths = [max(rendition.seconds(version), 0.2) for version in VERSIONS]
    axes = figure.subplots(1, len(VERSIONS), width_ratios=widths, sharey=True)
    figure.subplots_adjust(left=0.045, right=0.995, top=0.9, bottom=0.19, wspace=0.05)
    for axis, version in zip(axes, VERSIONS, strict=True):
        _draw_spectrogram(axis, spectrograms[version], rendition.seconds(version), top_db)
        axis.set_title(TITLES[version], color=INK, fontsize=9, loc="left")
        axis.set_xlabel("seconds", color=INK, fontsize=8)
    axes[0].set_ylabel("mel band", color=INK, fontsize=8)
    _save(figure, path)


def write_alignment_picture(path: Path, rendition: Rendition) -> None:
    """Write a PNG of the phones over the synthesis and, where it is aligned, over the recording."""
    versions = [(SYNTHESIS, rendition.synthesis_durations_frames)]
    if rendition.recording_durations_frames is not None:
        versions.insert(0, (RECORDING, rendition.recording_durations_frames))
    spectrograms = [
        log_mel_db(rendition.waveform(version), rendition.sample_rate_hz) for version, _ in versions
    ]
    top_db = max(float(spectrogram.max()) for spectrogram in spectrograms)
    height_inches = 0.45 + 1.7 * len(versions)
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DOTS_PER_INCH)
    axes = figure.subplots(len(versions), 1, sharex=True, squeeze=False)[:, 0]
    # Fixed margins: matplotlib's layout engines draw each picture several times.
    figure.subplots_adjust(
        left=0.045, right=0.995, top=1 - 0.32 / height_inches, bottom=0.45 / height_inches, hspace=0.3
    )
    for axis, (version, durations), spectrogram in zip(axes, versions, spectrograms, strict=True):
        _draw_spectrogram(axis, spectrogram, rendition.seconds(version), top_db)
        _draw_phones(axis, rendition.phones, durations, rendition.frame_seconds)
        axis.set_ylabel(f"{TITLES[version]}, mel band", color=INK, fontsize=8)
    axes[-1].set_xlim(0, max(rendition.seconds(version) for version, _ in versions) or 1)
    axes[-1].set_xlabel("seconds", color=INK, fontsize=8)
    _save(figure, path)


def log_mel_db(waveform: FloatArray, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Return the log-mel spectrogram (T, 80) in decibels; what is not finite counts as silence."""
    hop_samples = round(FRAME_SECONDS * sample_rate_hz)
    n_fft = 2 * round(2 * FRAME_SECONDS * sample_rate_hz) + hop_samples % 2  # n_fft − hop must be even
    settings = SpectrogramSettings(sample_rate_hz, n_fft, hop_samples, n_fft, N_MELS)
    samples = np.nan_to_num(np.asarray(waveform, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    samples = np.pad(samples, (0, max(0, settings.min_samples - len(samples))))
    return log_mel(linear_spectrogram(samples, settings), mel_filterbank(settings)) * np.float32(
        20 / np.log(10)
    )


def _draw_spectrogram(axis: Any, spectrogram: npt.NDArray[np.float32], seconds: float, top_db: float) -> None:
    axis.imshow(
        spectrogram.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=top_db - RANGE_DB,
        vmax=top_db,
        extent=(0, max(seconds, FRAME_SECONDS), 0, N_MELS),
        interpolation="nearest",
    )
    axis.patch.set_alpha(0.0)
    axis.tick_params(colors=INK, labelsize=8)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _draw_phones(
    axis: Any, phones: tuple[str, ...], durations_frames: IntArray, frame_seconds: float
) -> None:
    ends = np.cumsum(np.asarray(durations_frames, dtype=np.float64)) * frame_seconds
    starts = np.concatenate([[0.0], ends[:-1]]) if len(ends) else ends
    axis.vlines(ends, 0, N_MELS, color="white", linewidth=0.6, alpha=0.7)
    for index, (phone, start, end) in enumerate(zip(phones, starts, ends, strict=True)):
        # Neighbours at two heights: short phones' labels would run into each other on one line.
        axis.annotate(
            phone,
            ((start + end) / 2, 1.02 + 0.1 * (index % 2)),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            color=INK,
            fontsize=7,
            parse_math=False,
        )


def _save(figure: Figure, path: Path) -> None:
    figure.patch.set_alpha(0.0)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # A palette halves the file or better, and the eye does not miss the other colours.
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    picture.quantize(N_COLOURS, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)
