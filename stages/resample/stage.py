"""Resample stage: recordings become mono 16-bit PCM at the target rate; trimming and loudness are optional."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import soxr
from annotated_types import Interval, Le
from xxhash import xxh3_128_hexdigest

from model.settings import NonNegativeFloat, PositiveFloat, Settings, Share
from stages.audio import decode as audio
from stages.audio.loudness import gain_db_to
from stages.audio.voice_activity import PACKAGES as SPEECH_PACKAGES
from stages.common import manifests
from stages.common.code_graph import code_version
from stages.common.errors import RowRejected
from stages.common.files import content_key, output_folder
from stages.common.manifests import ManifestRows
from stages.resample.trimming import energy_span, speech_span
from stages.rows.engine import Row, RowResult, compute_each, run_rows
from stages.rows.outcomes import outcome_writer

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ResampleParams(Settings):
    """Target rate and soxr's quality ("HQ" is what librosa calls soxr_hq); then what else is done to the sound, if
    anything.

    `loudness_lufs` is brought about as far as a peak of `peak_ceiling_dbfs` allows. `trim` cuts silence off both ends
    but for `trim_margin_seconds`: what is `trim_below_db` below the loudest 10 ms (energy), or where no voice is heard
    (vad).
    """

    sample_rate_hz: Annotated[int, Interval(ge=4000, le=192000)]
    quality: Literal["QQ", "LQ", "MQ", "HQ", "VHQ"]
    max_reject_share: Share
    loudness_lufs: Annotated[float, Interval(gt=-70, lt=0)] | None = None
    peak_ceiling_dbfs: Annotated[float, Le(0)] = -1.0
    trim: Literal["none", "energy", "vad"] = "none"
    trim_margin_seconds: NonNegativeFloat = 0.1
    trim_below_db: PositiveFloat = 40.0


@dataclass(frozen=True)
class ProcessedAudio:
    """16-bit samples (S,) with the gain and the trimming that were applied."""

    pcm: npt.NDArray[np.int16]
    gain_db: float
    trimmed_start_seconds: float
    trimmed_end_seconds: float


def to_pcm(samples: FloatArray, source_rate_hz: int, params: ResampleParams) -> ProcessedAudio:
    """Mix float samples (S, C) to mono, resample, trim and normalise the loudness.

    Full scale is 32768; overflow is clipped, as in the reference's PCM16 files. Raises RowRejected("no_speech") if
    trimming finds nothing to keep.
    """
    mono = audio.to_mono(samples)
    same_rate = source_rate_hz == params.sample_rate_hz
    mono = mono.copy() if same_rate else _resample(mono, source_rate_hz, params)
    start, end = _kept_span(mono, params)
    n_samples, mono = len(mono), mono[start:end]
    gain_db = 0.0
    if params.loudness_lufs is not None and mono.any():
        gain_db = gain_db_to(params.loudness_lufs, mono, params.sample_rate_hz, params.peak_ceiling_dbfs)
        mono *= np.float32(10 ** (gain_db / 20))
    mono *= np.float32(audio.INT16_SCALE)
    np.rint(mono, out=mono)
    np.clip(mono, -32768, 32767, out=mono)
    pcm = mono.astype("<i2")
    return ProcessedAudio(pcm, gain_db, start / params.sample_rate_hz, (n_samples - end) / params.sample_rate_hz)


def _resample(mono: FloatArray, source_rate_hz: int, params: ResampleParams) -> FloatArray:
    resampler = _resampler(source_rate_hz, params.sample_rate_hz, params.quality)
    resampler.clear()
    resampled: FloatArray = resampler.resample_chunk(mono, last=True)
    return resampled


@lru_cache(maxsize=8)
def _resampler(source_rate_hz: int, target_rate_hz: int, quality: str) -> soxr.ResampleStream:
    """Return a mono resampler, whose filter is designed once per pair of rates."""
    return soxr.ResampleStream(source_rate_hz, target_rate_hz, 1, dtype="float32", quality=quality)


def _kept_span(mono: FloatArray, params: ResampleParams) -> tuple[int, int]:
    if params.trim == "none":
        return 0, len(mono)
    if params.trim == "energy":
        span = energy_span(mono, params.sample_rate_hz, params.trim_below_db, params.trim_margin_seconds)
    else:
        span = speech_span(mono, params.sample_rate_hz, params.trim_margin_seconds)
    if span is None:
        raise RowRejected("no_speech", f"resample.trim = {params.trim} finds nothing to keep")
    return span


def process(source: audio.HashedFile, params: ResampleParams) -> RowResult:
    """Return (facts, PCM bytes) of one recording; raises RowRejected if it changed after the corpus stage."""
    recording = audio.decode(source.read(), os.path.splitext(source.path)[1])
    processed = to_pcm(recording.samples, recording.sample_rate_hz, params)
    if not processed.pcm.any():
        raise RowRejected("silent_audio", "every sample is zero at 16 bits")
    packed = processed.pcm.tobytes()
    facts = {
        "n_samples": len(processed.pcm),
        "pcm_xxh3": xxh3_128_hexdigest(packed),
        "gain_db": processed.gain_db,
        "trimmed_start_seconds": processed.trimmed_start_seconds,
        "trimmed_end_seconds": processed.trimmed_end_seconds,
    }
    return facts, packed


def compute(params: ResampleParams, rows: Sequence[Row]) -> list[RowResult]:
    """Resample a chunk of rows."""
    return compute_each(partial(process, params=params), rows)


def _packages(params: ResampleParams) -> list[str]:
    """Return the packages whose versions the samples depend on."""
    loudness = ["pyloudnorm", "scipy"] if params.loudness_lufs is not None else []
    trimming = {"none": (), "energy": ("librosa",), "vad": SPEECH_PACKAGES}[params.trim]
    return ["soxr", *loudness, *trimming]


def make_rows(utterances: ManifestRows, params: ResampleParams) -> Iterator[Row]:
    """Yield a row per recording."""
    recordings = Path(utterances.facts["recordings"])
    processing = {name: value for name, value in asdict(params).items() if name != "max_reject_share"}
    settings = [processing, {name: version(name) for name in _packages(params)}, code_version("stages.resample.stage")]
    for row in utterances.read("utterance_id", "audio_path", "audio_sha256", "audio_xxh3"):
        key = content_key("resample", row["audio_sha256"], Path(row["audio_path"]).suffix.lower(), settings)
        yield Row(row["utterance_id"], key, audio.HashedFile(str(recordings / row["audio_path"]), row["audio_xxh3"]))


def main(corpus: Path, out: Path, params: ResampleParams) -> None:
    """Decode, mix to mono and resample every recording; trim it and normalise its loudness if params say so.

    Reads corpus.parquet and the recordings; writes resample.parquet, rejects.parquet and shards of 16-bit PCM.
    """
    utterances = manifests.open_manifest(corpus / "corpus.parquet", manifests.CORPUS)
    facts = {"sample_rate_hz": params.sample_rate_hz}
    with (
        output_folder(out) as temporary,
        run_rows(
            "resample", partial(make_rows, utterances, params), partial(compute, params), temporary, isolated=True
        ) as outcome,
        outcome_writer(
            temporary,
            "resample",
            manifests.RESAMPLE,
            facts,
            n_input=utterances.n_rows,
            max_reject_share=params.max_reject_share,
        ) as writer,
    ):
        outcome.write(writer)
