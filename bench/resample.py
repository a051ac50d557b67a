"""Is the resample stage faster than librosa file by file?

Recordings at 48 kHz to 16-bit PCM at 44.1 kHz, with the same soxr filter on both sides. `resample` is a row of work
with its shard, `resample_stage` adds the row store as in the stage; the limit is the filter alone.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from xxhash import xxh3_128_hexdigest

from bench.harness.common import (
    LIMIT,
    OURS,
    REFERENCE,
    OnPrepared,
    OwnProcess,
    Result,
    cut_in_blocks,
    interleave_blocks,
    rate_result,
)
from bench.harness.shard_files import write_named_shards
from bench.harness.speech import Clip, sample
from stages.audio.decode import HashedFile
from stages.common.files import content_key
from stages.common.memory import keep_freed_memory
from stages.resample.stage import ResampleParams, compute, process
from stages.rows.engine import Row, run_rows

SOURCE_RATE_HZ = 48000
PARAMS = ResampleParams(sample_rate_hz=44100, quality="HQ", max_reject_share=0.0)
BLOCK_CLIPS = 60
UNIT = "× real time per CPU-second"
TARGET, LIMIT_SHARE_TARGET = 1.7, 0.65


@dataclass(frozen=True)
class Recordings:
    """PCM16 WAV files at 48 kHz and their length; every side writes to a new folder below `results`."""

    sources: list[HashedFile]
    seconds: float
    results: Path

    def new_folder(self) -> Path:
        """Return an empty folder; overwriting older results would add the cost of freeing them."""
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
    """Every recording through the stage's pure core (hash, decode, soxr, 16 bits), into shards of the folder that is
    returned.
    """
    folder = recordings.new_folder()
    by_id = {Path(source.path).stem: source for source in recordings.sources}
    write_named_shards(folder, by_id, lambda utterance_id: process(by_id[utterance_id], PARAMS)[1])
    return folder


def ours_as_stage(recordings: Recordings) -> Path:
    """Write every recording through an empty row store to shards in a new folder, as the stage does, and return the
    folder.
    """
    folder = recordings.new_folder()
    rows = [Row(Path(source.path).stem, content_key(source.xxh3), source) for source in recordings.sources]
    os.environ.update(VOICE_WORKERS="1", VOICE_ROW_STORE=str(folder / "rows"))
    # Standard error takes the stage's own progress bars.
    with (
        contextlib.redirect_stderr(io.StringIO()),
        run_rows("resample", lambda: rows, partial(compute, PARAMS), folder),
    ):
        return folder


def reference(recordings: Recordings) -> Path:
    """Write every recording, resampled by librosa, as a file into a new folder and return it."""
    import librosa

    folder = recordings.new_folder()
    for source in recordings.sources:
        samples, _ = librosa.load(source.path, sr=PARAMS.sample_rate_hz, res_type="soxr_hq")
        soundfile.write(folder / Path(source.path).name, samples, PARAMS.sample_rate_hz, subtype="PCM_16")
    return folder


def _levels(recordings: Recordings) -> Iterator[npt.NDArray[np.float32]]:
    for source in recordings.sources:
        yield soundfile.read(source.path, dtype="float32")[0]


def kernel(level: npt.NDArray[np.float32]) -> None:
    """Apply the soxr filter alone, on floats in memory."""
    soxr.resample(level, SOURCE_RATE_HZ, PARAMS.sample_rate_hz, quality=PARAMS.quality)


def _compare(name: str, our_side: Callable[[Recordings], Path], clips: Sequence[Clip], folder: Path) -> Result:
    sides: dict[str, Callable[[Recordings], object]] = {
        OURS: OwnProcess(our_side, keep_freed_memory),
        REFERENCE: OwnProcess(reference),
        LIMIT: OnPrepared(_levels, kernel),
    }
    blocks = cut_in_blocks(sample(clips, len(clips)), BLOCK_CLIPS)
    written = (write_recordings(block, folder / "recordings") for block in blocks)
    timings = interleave_blocks(sides, written, len(blocks), lambda recordings: recordings.seconds)
    note = f"{len(clips)} WAV files, {BLOCK_CLIPS} at a time, 48 → 44.1 kHz; limit: the soxr kernel on floats in memory"
    return rate_result(name, timings, unit=UNIT, target=TARGET, limit_share_target=LIMIT_SHARE_TARGET, note=note)


def run(clips: Sequence[Clip], scratch: Path) -> list[Result]:
    """Compare the stage's row of work, and the stage with its row store, with librosa."""
    return [_compare("resample", ours, clips, scratch), _compare("resample_stage", ours_as_stage, clips, scratch)]
