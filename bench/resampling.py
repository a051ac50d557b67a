"""Resampling 48 kHz recordings to 44.1 kHz 16-bit PCM: our stage against librosa file by file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import yaml
from xxhash import xxh3_128_hexdigest

from bench.common import LIMIT, OURS, REFERENCE, Result, Timings, cut_in_blocks, interleave_blocks, rate_result
from bench.shard_files import write_named_shards
from bench.speech import Clip, sample
from stages.common import manifests
from stages.common.audio import HashedFile
from stages.common.files import content_key
from stages.common.rows import Row, run_rows
from stages.resample import ResampleParams, compute, process

SOURCE_RATE_HZ = 48000
PARAMS = ResampleParams(sample_rate_hz=44100, quality="HQ", max_reject_share=0.0)
BLOCK_CLIPS = 60
N_WORKERS = 2
UNIT = "× real time per CPU-second"
WALL_UNIT = "× real time"
TARGET, LIMIT_SHARE_TARGET, WALL_TARGET = 1.7, 0.65, 5.0


@dataclass(frozen=True)
class Recordings:
    """PCM16 WAV files at 48 kHz, as files and as floats in memory."""

    sources: list[HashedFile]
    levels: list[np.ndarray]

    @property
    def seconds(self) -> float:
        """Length of all."""
        return sum(map(len, self.levels)) / SOURCE_RATE_HZ


def write_recordings(clips: Sequence[Clip], folder: Path) -> Recordings:
    """Write each clip at 48 kHz as a WAV file."""
    folder.mkdir(parents=True, exist_ok=True)
    sources, levels = [], []
    for number, clip in enumerate(clips):
        samples = clip.at_rate(SOURCE_RATE_HZ)
        path = folder / f"{number:05d}.wav"
        soundfile.write(path, samples, SOURCE_RATE_HZ, subtype="PCM_16")
        sources.append(HashedFile(str(path), xxh3_128_hexdigest(path.read_bytes())))
        levels.append(samples.astype(np.float32) / np.float32(32768.0))
    return Recordings(sources, levels)


def ours(folder: Path, recordings: Recordings) -> None:
    """Every recording through the stage's pure core (hash, decode, soxr, 16 bits), into shards."""
    by_id = {Path(source.path).stem: source for source in recordings.sources}
    write_named_shards(folder, by_id, lambda utterance_id: process(by_id[utterance_id], PARAMS)[1])


def ours_as_stage(folder: Path, recordings: Recordings) -> None:
    """Every recording as the stage runs it on one worker: row store with nothing in it, then shards."""
    store = folder / "rows"
    shutil.rmtree(store, ignore_errors=True)
    rows = [Row(Path(source.path).stem, content_key(source.xxh3), source) for source in recordings.sources]
    os.environ.update(VOICE_WORKERS="1", VOICE_ROW_STORE=str(store))
    # Standard error takes the stage's own progress bars.
    with contextlib.redirect_stderr(io.StringIO()), run_rows("resample", lambda: rows, partial(compute, PARAMS), folder):
        pass


def reference(folder: Path, recordings: Recordings) -> None:
    """Every recording by librosa, which resamples with the same soxr filter, to a file of its own."""
    import librosa

    for source in recordings.sources:
        samples, _ = librosa.load(source.path, sr=PARAMS.sample_rate_hz, res_type="soxr_hq")
        soundfile.write(folder / Path(source.path).name, samples, PARAMS.sample_rate_hz, subtype="PCM_16")


def kernel(recordings: Recordings) -> None:
    """The soxr filter alone, on floats in memory."""
    for level in recordings.levels:
        soxr.resample(level, SOURCE_RATE_HZ, PARAMS.sample_rate_hz, quality=PARAMS.quality)


def _compare(name: str, our_side: Any, clips: Sequence[Clip], folder: Path) -> Result:
    for side in (OURS, REFERENCE):
        (folder / side).mkdir()
    sides = {OURS: partial(our_side, folder / OURS), REFERENCE: partial(reference, folder / REFERENCE), LIMIT: kernel}
    blocks = cut_in_blocks(sample(clips, len(clips)), BLOCK_CLIPS)
    written = (write_recordings(block, folder / "recordings") for block in blocks)
    timings = interleave_blocks(sides, written, len(blocks), lambda recordings: recordings.seconds)
    note = f"{len(clips)} WAV files, {BLOCK_CLIPS} at a time, 48 → 44.1 kHz; limit: the soxr kernel on floats in memory"
    return rate_result(name, timings, unit=UNIT, target=TARGET, limit_share_target=LIMIT_SHARE_TARGET, note=note)


def resample(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the stage's row of work with librosa; the limit is the soxr kernel alone."""
    return _compare("resample", ours, clips, folder)


def resample_stage(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the stage as it runs, with its row store and shards, with librosa."""
    return _compare("resample_stage", ours_as_stage, clips, folder)


def _write_corpus(recordings: Recordings, folder: Path) -> None:
    """Write the manifest that the resample stage reads, and its parameters."""
    unknown = {field.name: None for field in manifests.CORPUS if field.nullable}
    rows = [
        {"utterance_id": Path(source.path).stem, "speaker": "", "language": "EN", "text": "", "audio_path": Path(source.path).name,
         "audio_sha256": hashlib.sha256(source.xxh3.encode()).hexdigest(), "audio_xxh3": source.xxh3, "container": "wav",
         "sample_rate_hz": SOURCE_RATE_HZ, "n_channels": 1, "n_samples": len(level), "synthetic": False, "samples_xxh3": "",
         "clipped_share": 0.0, "dc_offset": 0.0, **unknown}
        for source, level in zip(recordings.sources, recordings.levels, strict=True)
    ]  # fmt: skip
    table = manifests.table_from_rows(rows, manifests.CORPUS, {"recordings": str(Path(recordings.sources[0].path).parent)})
    manifests.write_manifest(folder / "corpus" / "corpus.parquet", table)
    values = {"sample_rate_hz": PARAMS.sample_rate_hz, "quality": PARAMS.quality, "max_reject_share": PARAMS.max_reject_share}
    (folder / "params.yaml").write_text(yaml.safe_dump({"resample": values}), encoding="utf-8")


def _wall_seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    return time.perf_counter() - start


def resample_wall(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the time on the clock: the stage's command with two workers, start-up and all, and librosa in one process, started already."""
    recordings = write_recordings(clips, folder / "recordings")
    _write_corpus(recordings, folder)
    (folder / REFERENCE).mkdir()
    reference(folder / REFERENCE, Recordings(recordings.sources[:5], []))
    start = time.perf_counter()
    reference(folder / REFERENCE, recordings)
    seconds = {REFERENCE: time.perf_counter() - start}
    command = [sys.executable, "-m", "stages.resample", "--corpus", str(folder / "corpus"), "--out", str(folder / OURS),
               "--params", str(folder / "params.yaml")]  # fmt: skip
    seconds[OURS] = _wall_seconds(command, {"VOICE_WORKERS": str(N_WORKERS), "VOICE_ROW_STORE": str(folder / "rows")})
    timings = Timings({side: found / recordings.seconds for side, found in seconds.items()}, 1)
    note = (
        f"{len(clips)} WAV files, {recordings.seconds / 60:.0f} minutes; {N_WORKERS} workers, from the command to its end; reference: one process, "
        "as the original runs on up to four cores, with today's default filter of librosa"
    )
    return rate_result("resample_wall", timings, unit=WALL_UNIT, target=WALL_TARGET, note=note)
