"""Resampling 48 kHz recordings to 44.1 kHz 16-bit PCM: our stage against librosa file by file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import yaml
from xxhash import xxh3_128_hexdigest

from bench.harness.common import LIMIT, OURS, REFERENCE, OnPrepared, OwnProcess, Result, Timings, cut_in_blocks, interleave_blocks, rate_result
from bench.librosa_files import resample_files
from bench.harness.shard_files import write_named_shards
from bench.harness.speech import Clip, sample
from stages.common import manifests
from stages.common.audio import HashedFile
from stages.common.files import content_key
from stages.common.memory import keep_freed_memory
from stages.common.rows import Row, run_rows
from stages.resample import ResampleParams, compute, process

SOURCE_RATE_HZ = 48000
PARAMS = ResampleParams(sample_rate_hz=44100, quality="HQ", max_reject_share=0.0)
BLOCK_CLIPS = 60
N_WORKERS = 2
UNIT = "× real time per CPU-second"
WALL_UNIT = "× real time"
ORIGINAL_FILTER, N_SLOW_CLIPS = "kaiser_best", 200
TARGET, LIMIT_SHARE_TARGET, WALL_TARGET = 1.7, 0.65, 5.0


@dataclass(frozen=True)
class Recordings:
    """PCM16 WAV files at 48 kHz and their length; what is made of them goes into new folders below `results`."""

    sources: list[HashedFile]
    seconds: float
    results: Path

    def new_folder(self) -> Path:
        """Return an empty folder: writing over what is there would cost freeing it, too."""
        self.results.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.results))


def write_recordings(clips: Sequence[Clip], folder: Path) -> Recordings:
    """Write each clip at 48 kHz as a WAV file into `folder`, which is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sources, n_samples = [], 0
    for number, clip in enumerate(clips):
        samples = clip.at_rate(SOURCE_RATE_HZ)
        path = folder / f"{number:05d}.wav"
        soundfile.write(path, samples, SOURCE_RATE_HZ, subtype="PCM_16")
        sources.append(HashedFile(str(path), xxh3_128_hexdigest(path.read_bytes())))
        n_samples += len(samples)
    return Recordings(sources, n_samples / SOURCE_RATE_HZ, folder / "results")


def ours(recordings: Recordings) -> Path:
    """Every recording through the stage's pure core (hash, decode, soxr, 16 bits), into shards of the folder that is returned."""
    folder = recordings.new_folder()
    by_id = {Path(source.path).stem: source for source in recordings.sources}
    write_named_shards(folder, by_id, lambda utterance_id: process(by_id[utterance_id], PARAMS)[1])
    return folder


def ours_as_stage(recordings: Recordings) -> Path:
    """Every recording as the stage runs it, but for its processes: row store with nothing in it, then shards of the folder that is returned."""
    folder = recordings.new_folder()
    rows = [Row(Path(source.path).stem, content_key(source.xxh3), source) for source in recordings.sources]
    os.environ.update(VOICE_WORKERS="1", VOICE_ROW_STORE=str(folder / "rows"))
    # Standard error takes the stage's own progress bars.
    with contextlib.redirect_stderr(io.StringIO()), run_rows("resample", lambda: rows, partial(compute, PARAMS), folder):
        return folder


def reference(recordings: Recordings) -> Path:
    """Every recording by librosa with the same soxr filter, to a file of its own in the folder that is returned."""
    folder = recordings.new_folder()
    resample_files([Path(source.path) for source in recordings.sources], folder, PARAMS.sample_rate_hz, "soxr_hq")
    return folder


def _levels(recordings: Recordings) -> Iterator[npt.NDArray[np.float32]]:
    for source in recordings.sources:
        yield soundfile.read(source.path, dtype="float32")[0]


def kernel(level: npt.NDArray[np.float32]) -> None:
    """Apply the soxr filter alone, on floats in memory."""
    soxr.resample(level, SOURCE_RATE_HZ, PARAMS.sample_rate_hz, quality=PARAMS.quality)


def _compare(name: str, our_side: Callable[[Recordings], Path], clips: Sequence[Clip], folder: Path) -> Result:
    sides = {OURS: OwnProcess(our_side, keep_freed_memory), REFERENCE: OwnProcess(reference), LIMIT: OnPrepared(_levels, kernel)}
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
         "sample_rate_hz": SOURCE_RATE_HZ, "n_channels": 1, "n_samples": soundfile.info(source.path).frames, "synthetic": False, "samples_xxh3": "",
         "clipped_share": 0.0, "dc_offset": 0.0, **unknown}
        for source in recordings.sources
    ]  # fmt: skip
    table = manifests.table_from_rows(rows, manifests.CORPUS, {"recordings": str(Path(recordings.sources[0].path).parent)})
    manifests.write_manifest(folder / "corpus" / "corpus.parquet", table)
    values = {"sample_rate_hz": PARAMS.sample_rate_hz, "quality": PARAMS.quality, "max_reject_share": PARAMS.max_reject_share}
    (folder / "params.yaml").write_text(yaml.safe_dump({"resample": values}), encoding="utf-8")


def _wall_seconds(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], env={**os.environ, **(environment or {})}, check=True, capture_output=True)
    return time.perf_counter() - start


def _compare_wall(
    name: str, filter_name: str, what: str, clips: Sequence[Clip], folder: Path, *, n_reference: int | None = None, target: float | None = None
) -> Result:
    """Compare the time on the clock, each side from its command to its end: ours with two workers, librosa on `n_reference` of the clips
    (all with None)."""
    recordings = write_recordings(clips, folder / "recordings")
    _write_corpus(recordings, folder)
    ours = ["stages.resample", "--corpus", str(folder / "corpus"), "--out", str(folder / OURS), "--params", str(folder / "params.yaml")]
    seconds = {OURS: _wall_seconds(ours, {"VOICE_WORKERS": str(N_WORKERS), "VOICE_ROW_STORE": str(folder / "rows")}) / recordings.seconds}
    some, sources = recordings, folder / "recordings"
    if n_reference is not None:
        sources = folder / "some"
        some = write_recordings(sample(clips, n_reference), sources)
    seconds[REFERENCE] = _wall_seconds(["bench.librosa_files", str(sources), str(folder / REFERENCE), filter_name]) / some.seconds
    note = (
        f"{len(clips)} WAV files, {recordings.seconds / 60:.0f} minutes, from the command to its end, ours with {N_WORKERS} workers; reference: "
        f"{len(some.sources)} of them in one process, as the original works on up to four cores, {what}"
    )
    return rate_result(name, Timings(seconds, 1), unit=WALL_UNIT, target=target, note=note)


def resample_wall(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the stage's command with the original's way: librosa with the filter that the original's pinned version has by default."""
    what = "with the default filter of the librosa that it pins"
    return _compare_wall("resample_wall", ORIGINAL_FILTER, what, clips, folder, n_reference=N_SLOW_CLIPS, target=WALL_TARGET)


def resample_wall_soxr(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the stage's command with librosa and the same soxr filter as ours."""
    return _compare_wall("resample_wall_soxr", "soxr_hq", "with today's default filter, the same as ours", clips, folder)
