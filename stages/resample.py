"""Resample stage: recordings become mono 16-bit PCM at the target rate, in shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soxr

from stages.common import audio, manifests
from stages.common.code_graph import code_version
from stages.common.errors import RowRejected
from stages.common.files import content_key, output_folder
from stages.common.manifests import ManifestRows
from stages.common.outcomes import outcome_writer
from stages.common.rows import Row, RowResult, compute_each, run_rows
from stages.common.stage import run_stage


@dataclass(frozen=True)
class ResampleParams:
    """Target rate and soxr's quality ("HQ" is what librosa calls soxr_hq)."""

    sample_rate_hz: int
    quality: str
    max_reject_share: float

    def __post_init__(self) -> None:
        if not 4000 <= self.sample_rate_hz <= 192000:
            raise ValueError(f"sample_rate_hz {self.sample_rate_hz} is outside 4000–192000")
        if self.quality not in ("QQ", "LQ", "MQ", "HQ", "VHQ"):
            raise ValueError(f"quality {self.quality!r} is not one of QQ, LQ, MQ, HQ, VHQ")


@dataclass(frozen=True)
class Source:
    """A recording as the corpus manifest knows it."""

    path: str
    sha256: str


def to_pcm(samples: np.ndarray, source_rate_hz: int, params: ResampleParams) -> np.ndarray:
    """Mix (S, channels) float samples to mono and resample; returns int16 (S',).

    Full scale is 32768; what would overflow is clipped, as in the reference's PCM16 files.
    """
    mono = samples.mean(axis=1, dtype=np.float64).astype(np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if source_rate_hz != params.sample_rate_hz:
        mono = soxr.resample(mono, source_rate_hz, params.sample_rate_hz, quality=params.quality)
    return np.clip(np.rint(mono * 32768.0), -32768, 32767).astype("<i2")


def process(source: Source, params: ResampleParams) -> RowResult:
    """Return (facts, PCM bytes) of one recording; raises RowRejected when it cannot be read as the corpus stage saw it."""
    path = Path(source.path)
    data, sha256 = audio.read_bytes(path)
    if sha256 != source.sha256:
        raise RowRejected("changed_audio", f"{path} is not what the corpus stage hashed; run `dvc repro` again", lasting=False)
    recording = audio.decode(data, path.suffix)
    pcm = to_pcm(recording.samples, recording.sample_rate_hz, params)
    if not pcm.any():
        raise RowRejected("silent_audio", "every sample is zero at 16 bits")
    level = pcm.astype(np.float64) / 32768.0
    facts = {"n_samples": len(pcm), "pcm_sha256": hashlib.sha256(pcm.tobytes()).hexdigest(),
             "peak": float(np.abs(level).max()), "rms": float(np.sqrt(np.mean(level**2)))}  # fmt: skip
    return facts, pcm.tobytes()


def compute(params: ResampleParams, rows: Sequence[Row]) -> list[RowResult]:
    """Resample a chunk of rows."""
    return compute_each(partial(process, params=params), rows)


def make_rows(utterances: ManifestRows, params: ResampleParams) -> Iterator[Row]:
    """Yield every recording's work."""
    recordings = Path(utterances.facts["recordings"])
    settings = [params.sample_rate_hz, params.quality, soxr.__version__, code_version("stages.resample")]
    for row in utterances.read("utterance_id", "audio_path", "audio_sha256"):
        key = content_key("resample", row["audio_sha256"], Path(row["audio_path"]).suffix.lower(), settings)
        yield Row(row["utterance_id"], key, Source(str(recordings / row["audio_path"]), row["audio_sha256"]))


def main(corpus: Path, out: Path, params: ResampleParams) -> None:
    """Decode, mix to mono and resample every recording of the corpus manifest.

    Reads corpus.parquet and the recordings; writes resample.parquet, rejects.parquet and shards of 16-bit PCM.
    """
    utterances = manifests.open_manifest(corpus / "corpus.parquet", manifests.CORPUS)
    facts = {"sample_rate_hz": params.sample_rate_hz}
    with (
        output_folder(out) as temporary,
        run_rows("resample", partial(make_rows, utterances, params), partial(compute, params), temporary) as outcome,
        outcome_writer(temporary, "resample", manifests.RESAMPLE, facts, n_input=utterances.n_rows,
                       max_reject_share=params.max_reject_share) as writer,
    ):  # fmt: skip
        outcome.write(writer)


if __name__ == "__main__":
    run_stage(main, ResampleParams, "resample")
