"""Spectrogram stage: linear magnitude spectrograms of the resampled audio, cached as fp16 shards.

With `source: on_the_fly` nothing is cached: the manifest still holds frame counts and settings, and training computes
the same numbers from the PCM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import half_spectrogram, transform_kernels
from model.settings import NonNegativeFloat, PositiveFloat, PositiveInt, Settings, Share
from stages.common import manifests
from stages.common.code_graph import code_version
from stages.common.errors import ParamsError, RowRejected
from stages.common.files import content_key, output_folder
from stages.common.manifests import ManifestRows
from stages.rows.engine import Row, RowResult, compute_each, run_rows
from stages.rows.outcomes import OutcomeWriter, outcome_writer
from stages.rows.shards import ShardReader


@dataclass(frozen=True)
class SpectrogramParams(Settings):
    """Short-time Fourier transform and mel filter bank; the rate is that of the resampled audio."""

    source: Literal["cache", "on_the_fly"]
    n_fft: PositiveInt
    hop_samples: PositiveInt
    win_samples: PositiveInt
    n_mels: PositiveInt
    mel_fmin_hz: NonNegativeFloat
    mel_fmax_hz: PositiveFloat | None
    max_reject_share: Share

    def settings(self, sample_rate_hz: int) -> SpectrogramSettings:
        """Return the model's settings at a sample rate; raises ParamsError when they cannot work."""
        try:
            return SpectrogramSettings(
                sample_rate_hz,
                self.n_fft,
                self.hop_samples,
                self.win_samples,
                self.n_mels,
                self.mel_fmin_hz,
                self.mel_fmax_hz,
            )
        except ValueError as error:
            raise ParamsError(f"params.yaml: spectrogram: {error}") from None


@dataclass(frozen=True)
class PcmLocation:
    """Location of an utterance's PCM in the resample stage's shards."""

    folder: str
    shard: int
    offset_bytes: int
    n_samples: int


def check_length(n_samples: int, settings: SpectrogramSettings) -> None:
    """Raise RowRejected for a clip too short to transform."""
    if n_samples < settings.min_samples:
        raise RowRejected("too_short", f"{n_samples} samples; n_fft {settings.n_fft} needs {settings.min_samples}")


def process(location: PcmLocation, settings: SpectrogramSettings) -> RowResult:
    """Return (facts, fp16 bytes of the (frames, n_fft/2 + 1) magnitudes) of one utterance."""
    check_length(location.n_samples, settings)
    with ShardReader(Path(location.folder)) as reader:
        pcm = reader.read_array(location.shard, location.offset_bytes, (location.n_samples,), "int16")
    magnitudes = half_spectrogram(pcm, settings)
    return {"n_frames": len(magnitudes)}, magnitudes.tobytes()


def compute(settings: SpectrogramSettings, rows: Sequence[Row]) -> list[RowResult]:
    """Transform a chunk of rows."""
    return compute_each(partial(process, settings=settings), rows)


def make_rows(utterances: ManifestRows, resample: Path, settings: SpectrogramSettings) -> Iterator[Row]:
    """Yield every utterance's row."""
    transform = [
        settings.n_fft,
        settings.hop_samples,
        settings.win_samples,
        *transform_kernels(),
        code_version("stages.spectrogram.stage"),
    ]
    for row in utterances.read("utterance_id", "pcm_xxh3", "shard", "offset_bytes", "n_samples"):
        location = PcmLocation(str(resample), row["shard"], row["offset_bytes"], row["n_samples"])
        yield Row(row["utterance_id"], content_key("spectrogram", row["pcm_xxh3"], transform), location)


def describe_all(utterances: ManifestRows, settings: SpectrogramSettings, writer: OutcomeWriter) -> None:
    """Write the manifest without spectrograms (locations are 0), for training that computes them itself."""
    for row in utterances.read("utterance_id", "n_samples"):
        try:
            check_length(row["n_samples"], settings)
        except RowRejected as error:
            writer.reject(row["utterance_id"], error.reason, error.detail)
        else:
            writer.keep(
                {
                    "utterance_id": row["utterance_id"],
                    "shard": 0,
                    "offset_bytes": 0,
                    "n_frames": settings.frame_count(row["n_samples"]),
                }
            )


def main(resample: Path, out: Path, params: SpectrogramParams) -> None:
    """Compute the linear spectrogram of every utterance.

    Reads the resample stage's folder; writes spectrogram.parquet, rejects.parquet and, for `source: cache`, shards
    of fp16 magnitudes, frame after frame.
    """
    utterances = manifests.open_manifest(resample / "resample.parquet", manifests.RESAMPLE)
    settings = params.settings(utterances.facts["sample_rate_hz"])
    facts = {"settings": dataclasses.asdict(settings), "source": params.source}
    with (
        output_folder(out) as temporary,
        outcome_writer(
            temporary,
            "spectrogram",
            manifests.SPECTROGRAM,
            facts,
            n_input=utterances.n_rows,
            max_reject_share=params.max_reject_share,
        ) as writer,
    ):
        if params.source == "on_the_fly":
            describe_all(utterances, settings, writer)
            return
        rows = partial(make_rows, utterances, resample, settings)
        with run_rows("spectrogram", rows, partial(compute, settings), temporary) as outcome:
            outcome.write(writer)
