"""Resampling 48 kHz recordings to 44.1 kHz 16-bit PCM: our stage's row of work against librosa file by file."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr
from xxhash import xxh3_128_hexdigest

from bench.common import LIMIT, OURS, REFERENCE, Result, interleave, rate_result
from bench.shard_files import write_named_shards
from bench.speech import Clip, Pcm, sample
from stages.common.files import content_key
from stages.common.rows import Row, run_rows
from stages.resample import ResampleParams, Source, compute, process

SOURCE_RATE_HZ = 48000
PARAMS = ResampleParams(sample_rate_hz=44100, quality="HQ", max_reject_share=0.0)
N_CLIPS = 40
SECONDS = 6.0
UNIT = "× real time per CPU-second"
TARGET, LIMIT_SHARE_TARGET = 1.7, 0.65


@dataclass(frozen=True)
class Recordings:
    """PCM16 WAV files at 48 kHz and their hashes."""

    sources: list[Source]
    seconds: float


def write_recordings(pcm: Sequence[Pcm], folder: Path) -> Recordings:
    """Write each PCM (S,) at 48 kHz as a WAV file."""
    sources = []
    for number, samples in enumerate(pcm):
        path = folder / f"{number:04d}.wav"
        soundfile.write(path, samples, SOURCE_RATE_HZ, subtype="PCM_16")
        sources.append(Source(str(path), xxh3_128_hexdigest(path.read_bytes())))
    return Recordings(sources, sum(map(len, pcm)) / SOURCE_RATE_HZ)


def ours(recordings: Recordings, folder: Path) -> None:
    """Every recording through the stage's pure core (hash, decode, soxr, 16 bits, level), into shards."""
    by_id = {Path(source.path).stem: source for source in recordings.sources}
    write_named_shards(folder, by_id, lambda utterance_id: process(by_id[utterance_id], PARAMS)[1])


def ours_as_stage(recordings: Recordings, folder: Path, run: int) -> None:
    """Every recording as the stage runs it on one worker: row store with nothing in it, then shards."""
    rows = [Row(Path(source.path).stem, content_key(run, source.xxh3), source) for source in recordings.sources]
    os.environ.update(VOICE_WORKERS="1", VOICE_ROW_STORE=str(folder / f"rows-{run}"))
    # Standard error takes the stage's own progress bars.
    with contextlib.redirect_stderr(io.StringIO()), run_rows("resample", lambda: rows, partial(compute, PARAMS), folder):
        pass


def reference(recordings: Recordings, folder: Path) -> None:
    """Every recording by librosa, which resamples with the same soxr filter, to a file of its own."""
    import librosa

    for source in recordings.sources:
        samples, _ = librosa.load(source.path, sr=PARAMS.sample_rate_hz, res_type="soxr_hq")
        soundfile.write(folder / Path(source.path).name, samples, PARAMS.sample_rate_hz, subtype="PCM_16")


def _prepare(clips: Sequence[Clip], folder: Path) -> tuple[Recordings, list[np.ndarray]]:
    for name in ("recordings", "ours", "reference"):
        (folder / name).mkdir()
    pcm = [clip.at_rate(SOURCE_RATE_HZ) for clip in sample(clips, N_CLIPS)]
    return write_recordings(pcm, folder / "recordings"), [samples.astype(np.float32) / np.float32(32768.0) for samples in pcm]


def _kernel(levels: Sequence[np.ndarray]) -> None:
    for level in levels:
        soxr.resample(level, SOURCE_RATE_HZ, PARAMS.sample_rate_hz, quality=PARAMS.quality)


def resample(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the stage's row of work with librosa; the limit is the soxr kernel alone, on floats in memory."""
    recordings, levels = _prepare(clips, folder)
    timings = interleave({
        OURS: partial(ours, recordings, folder / "ours"),
        REFERENCE: partial(reference, recordings, folder / "reference"),
        LIMIT: partial(_kernel, levels),
    }, SECONDS, recordings.seconds)  # fmt: skip
    return rate_result("resample", timings, unit=UNIT, target=TARGET, limit_share_target=LIMIT_SHARE_TARGET,
                       note=_note(recordings))  # fmt: skip


def resample_stage(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the stage as it runs, with its row store and shards, with librosa."""
    recordings, levels = _prepare(clips, folder)
    runs = iter(range(1_000_000))
    timings = interleave({
        OURS: lambda: ours_as_stage(recordings, folder / "ours", next(runs)),
        REFERENCE: partial(reference, recordings, folder / "reference"),
        LIMIT: partial(_kernel, levels),
    }, SECONDS, recordings.seconds)  # fmt: skip
    return rate_result("resample_stage", timings, unit=UNIT, target=TARGET,
                       limit_share_target=LIMIT_SHARE_TARGET, note=_note(recordings))  # fmt: skip


def _note(recordings: Recordings) -> str:
    return f"{len(recordings.sources)} WAV files, {recordings.seconds:.0f} s, 48 → 44.1 kHz; limit: the soxr kernel on floats in memory"
