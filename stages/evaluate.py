"""Evaluate stage: the test utterances spoken by the voice, measured, and laid out for listening."""

from __future__ import annotations

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from model.bert import use_reproducible_kernels

use_reproducible_kernels()  # before torch is imported: text features to the last bit as training had them
import torch

from model.checkpoint import CheckpointError, checkpoint_sha256
from model.text.errors import TextError
from model.voice import SpeakingStyle, Voice
from stages.common import manifests
from stages.common.errors import PipelineError, StageError
from stages.common.files import output_folder, work_root, write_json
from stages.common.machine_settings import worker_count
from stages.common.progress import progress_bar
from stages.common.shards import ShardReader
from stages.common.stage import run_stage
from stages.evaluation.plots import write_plots
from stages.evaluation.report import ReportContext, write_report
from stages.evaluation.scoring import ROW_SCHEMA, ScoringSettings, score
from stages.measuring.rendition import Rendition

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateParams:
    """How many test utterances are spoken (all with null; chosen in the order of their ids), and in which style
    (the voice's own with null)."""

    max_utterances: int | None
    noise_scale: float | None
    duration_noise_scale: float | None
    sdp_ratio: float | None
    length_scale: float | None
    seed: int
    predicted_mos: bool

    def __post_init__(self) -> None:
        if self.max_utterances is not None and self.max_utterances < 1:
            raise ValueError(f"max_utterances is {self.max_utterances}; use at least 1, or null for all")

    def style(self, own: SpeakingStyle) -> SpeakingStyle:
        """Return how a voice speaks whose own style is `own`."""
        wanted = {name: value for name in vars(own) if (value := getattr(self, name)) is not None}
        return dataclasses.replace(own, **wanted)


def render(voice: Voice, row: dict[str, Any], pcm: np.ndarray, style: SpeakingStyle) -> Rendition:
    """Return one test utterance as recorded (int16), resynthesised and spoken; raises StageError for unreadable text."""
    speaker = row["speaker"]
    try:
        speech = voice.say(row["text"], language=row["language"], speaker=speaker, style=style)
    except (TextError, ValueError) as error:
        raise StageError(row["utterance_id"], None, f"cannot be spoken: {error}") from None
    return Rendition(
        utterance_id=row["utterance_id"], speaker=speaker, language=row["language"], text=row["text"],
        sample_rate_hz=speech.sample_rate_hz, recording=(pcm / 32768.0).astype(np.float32),
        resynthesis=voice.resynthesise(pcm, speaker), synthesis=speech.samples, phones=speech.phones,
        synthesis_durations_frames=speech.durations_frames, recording_durations_frames=None,
        hop_samples=voice.spectrogram.hop_samples, synthesis_cpu_seconds=speech.cpu_seconds,
        synthesis_wall_seconds=speech.wall_seconds, recording_is_synthetic=row["synthetic"],
    )  # fmt: skip


def render_all(voice: Voice, rows: list[dict[str, Any]], resample: Path, style: SpeakingStyle) -> list[Rendition]:
    """Return renditions of manifest rows; the first utterance is spoken twice, so that loading does not count as time."""
    voice.say(rows[0]["text"], language=rows[0]["language"], speaker=rows[0]["speaker"], style=style)
    renditions = []
    with ShardReader(resample) as reader, progress_bar("speaking", len(rows), "utterance") as bar:
        for row in rows:
            pcm = reader.read_array(row["pcm_shard"], row["pcm_offset_bytes"], (row["n_samples"],), "int16")
            renditions.append(render(voice, row, pcm, style))
            bar.update(1)
    return renditions


def main(split: Path, resample: Path, voice: Path, report: Path, metrics: Path, params: EvaluateParams) -> None:
    """Speak and measure the test utterances.

    Reads the split manifest, the resampled audio and the voice; writes utterances.parquet, plots and the listening
    report (index.html) into one folder, and the summary as metrics.json.
    """
    table = manifests.read_manifest(split / "split.parquet", manifests.SPLIT)
    rows = table.filter(pc.equal(table.column("subset"), "test")).to_pylist()[: params.max_utterances]
    if not rows:
        raise PipelineError("evaluate: the test set is empty; raise split.test_share")
    torch.set_num_threads(1)  # one utterance's figures must not depend on the number of cores
    try:
        speaker = Voice(voice, os.environ.get("VOICE_DEVICE", "cpu"))
    except CheckpointError as error:
        raise PipelineError(f"evaluate: {error}") from None
    renditions = render_all(speaker, rows, resample, params.style(speaker.style))
    scored, summary = score(renditions, ScoringSettings(work_root() / "whisper", threads=worker_count(), mos=params.predicted_mos))
    with output_folder(report) as folder:
        judged = {"step": speaker.metadata["step"], "voice_sha256": checkpoint_sha256(voice)}
        manifests.write_manifest(folder / "utterances.parquet", manifests.table_from_rows(scored, ROW_SCHEMA, judged))
        write_plots(folder / "plots", scored)
        write_report(folder, renditions, scored, summary, _context(speaker, len(rows)))
    write_json(metrics, summary)
    logger.info("evaluate: report in %s", report / "index.html")


def _context(voice: Voice, n_utterances: int) -> ReportContext:
    parameters = sum(parameter.numel() for parameter in voice.network.parameters())
    note = str(voice.metadata["source_note"])
    facts = {"training steps": f"{voice.metadata['step']:,}", "parameters": f"{parameters / 1e6:.1f} million",
             "sample rate": f"{voice.spectrogram.sample_rate_hz:,} Hz", "held-out utterances": str(n_utterances),
             "speakers": ", ".join(voice.speakers)}  # fmt: skip
    return ReportContext(title="Listening report", voice_name=", ".join(voice.speakers), facts=facts, attribution=note)


if __name__ == "__main__":
    run_stage(main, EvaluateParams, "evaluate")
