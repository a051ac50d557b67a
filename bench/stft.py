"""Are our magnitude spectrograms faster than torch.stft, and are the values the same?

Whole clips at 44.1 kHz, n_fft 2048, hop 512. `stft` is the transform of the spectrogram stage, `stft_torch` the
differentiable one of training; the reference is torch.stft and pow(2).sum(-1), the limit the FFT alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft
import torch
from torch import Tensor
from torch.nn import functional

from bench.harness.common import (
    LIMIT,
    OURS,
    REFERENCE,
    OnPrepared,
    OwnProcess,
    Result,
    cost_result,
    cut_in_blocks,
    interleave_blocks,
    use_one_thread,
)
from bench.harness.speech import Clip, Pcm
from model.audio.settings import POWER_FLOOR, SpectrogramSettings
from model.audio.spectrogram import linear_spectrogram, to_float
from model.audio.spectrogram_torch import torch_linear_spectrogram
from stages.common.memory import keep_freed_memory

SETTINGS = SpectrogramSettings(sample_rate_hz=44100, n_fft=2048, hop_samples=512, win_samples=2048, n_mels=128)
BLOCK_CLIPS = 60
TARGET_EQUAL, TARGET_ROUNDED = 2.5, 4.0  # bitwise the usual magnitudes, or equal but for rounding
EQUAL = "bitwise equal"
_FRAMES_AT_ONCE = 128  # by the bare FFT: what the second-level cache holds


def reference(pcm: Pcm, window: Tensor) -> Tensor:
    """Return magnitudes (F, T) computed the usual way: torch.stft, its complex values as pairs, pow(2).sum(-1)."""
    padding = SETTINGS.padding_samples
    waveform = torch.from_numpy(to_float(pcm)).unsqueeze(0)
    padded = functional.pad(waveform.unsqueeze(1), (padding, padding), mode="reflect").squeeze(1)
    spectrum = torch.stft(
        padded,
        SETTINGS.n_fft,
        hop_length=SETTINGS.hop_samples,
        win_length=SETTINGS.win_samples,
        window=window,
        center=False,
        return_complex=True,
    )
    return torch.sqrt(torch.view_as_real(spectrum).pow(2).sum(-1) + POWER_FLOOR).squeeze(0)


def ours_clip(pcm: Pcm) -> npt.NDArray[np.float32]:
    """Return magnitudes (T, F) as the spectrogram stage computes them."""
    return linear_spectrogram(pcm, SETTINGS)


def ours_torch(pcm: Pcm) -> npt.NDArray[np.float32]:
    """Return magnitudes (T, F) as training computes them, before batching."""
    return torch_linear_spectrogram(torch.from_numpy(to_float(pcm)).unsqueeze(0), SETTINGS)[0].t().numpy()


def agreement(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> str:
    """Describe how far two lists of magnitudes agree, in float32 and after rounding to float16 as in the cache."""
    a, b = (np.concatenate([array.ravel() for array in arrays]) for arrays in (found, expected))
    if np.array_equal(a, b):
        return EQUAL
    halves = np.mean(a.astype(np.float16) == b.astype(np.float16))
    return (
        f"NOT bitwise equal: {np.mean(a == b):.1%} of values are, {halves:.3%} as float16; "
        f"largest relative difference {np.max(np.abs(a - b) / b):.1e}"
    )


def _ready_frames(block: Sequence[Pcm]) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the frames of a block's clips, as many at once as the second-level cache holds."""
    frames = np.concatenate([_frames(samples) for samples in block])
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        yield frames[start : start + _FRAMES_AT_ONCE]


def _frames(pcm: Pcm) -> npt.NDArray[np.float32]:
    padded = np.pad(to_float(pcm), SETTINGS.padding_samples, mode="reflect")
    return np.ascontiguousarray(
        np.lib.stride_tricks.sliding_window_view(padded, SETTINGS.n_fft)[:: SETTINGS.hop_samples]
    )


def _n_frames(block: Sequence[Pcm]) -> int:
    return sum(SETTINGS.frame_count(len(samples)) for samples in block)


def _each(transform: Callable[[Pcm], object], block: Sequence[Pcm]) -> None:
    for samples in block:
        transform(samples)


def _as_in_a_stage() -> None:
    use_one_thread()
    keep_freed_memory()


def _compare(name: str, ours: Callable[[Pcm], np.ndarray], clips: Sequence[Clip]) -> Result:
    use_one_thread()
    window = torch.hann_window(SETTINGS.win_samples)
    n_frames = 0
    agreements: set[str] = set()

    def compared() -> Iterator[list[Pcm]]:
        nonlocal n_frames
        for some in blocks:
            block = [clip.at_rate(SETTINGS.sample_rate_hz) for clip in some]
            n_frames += _n_frames(block)
            agreements.add(
                agreement(
                    [ours(samples) for samples in block], [reference(samples, window).t().numpy() for samples in block]
                )
            )
            yield block

    blocks = cut_in_blocks(clips, BLOCK_CLIPS)
    pocket, mkl = "limit_pocketfft", LIMIT
    timings = interleave_blocks(
        {
            OURS: OwnProcess(partial(_each, ours), _as_in_a_stage),
            REFERENCE: OwnProcess(partial(_each, partial(reference, window=window)), use_one_thread),
            mkl: OnPrepared(_ready_frames, lambda frames: torch.fft.rfft(torch.from_numpy(frames))),
            pocket: OnPrepared(_ready_frames, scipy.fft.rfft),
        },
        compared(),
        len(blocks),
        _n_frames,
    )
    note = (
        f"{n_frames} frames of {len(clips)} clips; {'; '.join(sorted(agreements))}; target: {TARGET_EQUAL:g} × if "
        f"bitwise equal, else "
        f"{TARGET_ROUNDED:g} ×; limit: the FFT alone over ready frames, torch's: {timings.medians[mkl] * 1e6:.1f} "
        f"µs a frame (SciPy's takes "
        f"{timings.medians[pocket] / timings.medians[mkl]:.1f} × as long)"
    )
    target = TARGET_EQUAL if agreements == {EQUAL} else TARGET_ROUNDED
    return cost_result(name, timings, unit="µs a frame", unit_seconds=1e-6, target=target, note=note)


def run(clips: Sequence[Clip], scratch: Path) -> list[Result]:
    """Compare both transforms with torch.stft."""
    return [_compare("stft", ours_clip, clips), _compare("stft_torch", ours_torch, clips)]
