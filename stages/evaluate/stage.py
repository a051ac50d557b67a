"""Evaluate stage: synthesis of the test utterances, scores and the listening page."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import resource
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.bert.encoder import use_reproducible_kernels

use_reproducible_kernels()  # before torch is imported, so that text features are bit-identical to training's
import torch

from model.checkpoints.checkpoint import CheckpointError, checkpoint_sha256
from model.inference.voice import SpeakingStyle, Voice
from model.settings import NonNegativeInt, PositiveInt, Settings
from model.text.errors import TextError
from stages.common import manifests
from stages.common.errors import PipelineError, StageError
from stages.common.files import output_folder, work_root, write_json
from stages.common.progress import progress_bar
from stages.evaluate.checkpoints import TABLE as CHECKPOINTS_TABLE
from stages.evaluate.checkpoints import checkpoint_row, kept_checkpoints, write_checkpoints
from stages.evaluate.listening.listening import ONLY, write_listening_page
from stages.evaluate.plots import write_plots
from stages.evaluate.renditions import write_renditions
from stages.evaluate.scoring import ROW_SCHEMA, ScoringSettings, score, speed
from stages.metrics.perceptual import OPTIONAL, PerceptualEvaluator, Sound, package_versions
from stages.metrics.rendition import Rendition
from stages.metrics.sampling import evenly_spaced
from stages.rows.machine_settings import worker_count
from stages.rows.shards import ShardReader

logger = logging.getLogger(__name__)

SPEAKER_RECORDINGS = 10


@dataclass(frozen=True)
class EvaluateParams(Settings):
    """How many test utterances are spoken (all with null; chosen in the order of their ids), in which style (the
    voice's own with
    null), which networks hear them beside the recogniser (see `hearing.OPTIONAL`), on how many of them (`anchors`) the
    metrics' floor and the resynthesis are heard too, and on how many validation utterances the kept checkpoints are
    measured (0: none)."""

    max_utterances: PositiveInt | None
    noise_scale: float | None
    duration_noise_scale: float | None
    sdp_ratio: float | None
    length_scale: float | None
    seed: int
    hear: tuple[str, ...]
    anchors: PositiveInt
    checkpoint_utterances: NonNegativeInt = 0

    def _conflicts(self) -> Iterator[str]:
        if unknown := [name for name in self.hear if name not in OPTIONAL]:
            yield f"hear has {', '.join(unknown)}; valid: {', '.join(OPTIONAL)}"

    def style(self, own: SpeakingStyle) -> SpeakingStyle:
        """Return how a voice speaks whose own style is `own`."""
        wanted = {name: value for name in vars(own) if (value := getattr(self, name)) is not None}
        return dataclasses.replace(own, **wanted)


def render(voice: Voice, row: dict[str, Any], pcm: np.ndarray, style: SpeakingStyle) -> Rendition:
    """Return an utterance as recorded (int16), resynthesised and synthesised; raises StageError for unreadable text."""
    speaker = row["speaker"]
    try:
        speech = voice.say(row["text"], language=row["language"], speaker=speaker, style=style)
    except (TextError, ValueError) as error:
        raise StageError(row["utterance_id"], None, f"cannot be synthesised: {error}") from None
    return Rendition(
        utterance_id=row["utterance_id"],
        speaker=speaker,
        language=row["language"],
        text=row["text"],
        sample_rate_hz=speech.sample_rate_hz,
        recording=_samples(pcm),
        resynthesis=voice.resynthesise(pcm, speaker),
        synthesis=speech.samples,
        phones=speech.phones,
        synthesis_durations_frames=speech.durations_frames,
        recording_durations_frames=_alignment(voice, row, pcm),
        hop_samples=voice.spectrogram.hop_samples,
        synthesis_cpu_seconds=speech.cpu_seconds,
        synthesis_wall_seconds=speech.wall_seconds,
        recording_is_synthetic=row["synthetic"],
    )


def _alignment(voice: Voice, row: dict[str, Any], pcm: np.ndarray) -> np.ndarray | None:
    """Return the phone durations (P,) of a recording as the voice aligns it; None if it is too short for its phones."""
    try:
        return voice.align(pcm, row["text"], language=row["language"], speaker=row["speaker"])
    except ValueError:
        return None


def render_all(voice: Voice, rows: list[dict[str, Any]], resample: Path, style: SpeakingStyle) -> list[Rendition]:
    """Return renditions of manifest rows; an extra first synthesis keeps lazy loading out of the measured time."""
    voice.say(rows[0]["text"], language=rows[0]["language"], speaker=rows[0]["speaker"], style=style)
    renditions = []
    with ShardReader(resample) as reader, progress_bar("synthesis", len(rows), "utterance") as bar:
        for row in rows:
            renditions.append(render(voice, row, _pcm(reader, row), style))
            bar.update(1)
    return renditions


def speaker_references(
    table: pa.Table, resample: Path, speakers: Collection[str], sample_rate_hz: int
) -> dict[str, list[Sound]]:
    """Return training recordings of each speaker, evenly spaced over their ids, as references of speaker similarity."""
    training = table.filter(pc.equal(table.column("subset"), "train")).sort_by("utterance_id").to_pylist()
    references = {}
    with ShardReader(resample) as reader:
        for speaker in sorted(speakers):
            rows = [row for row in training if row["speaker"] == speaker]
            references[speaker] = [
                Sound(_samples(_pcm(reader, rows[index])), sample_rate_hz, None)
                for index in evenly_spaced(len(rows), SPEAKER_RECORDINGS)
            ]
    return references


def score_checkpoints(
    voice: Path, table: pa.Table, resample: Path, evaluator: PerceptualEvaluator, params: EvaluateParams
) -> list[dict[str, Any]]:
    """Return a row (see `checkpoint_row`) for the voice and each kept checkpoint; none if only the voice was kept.

    They are scored on validation utterances, evenly spaced over their ids: choosing a voice by its test scores would
    bias them.
    """
    folders = kept_checkpoints(voice)
    validation = table.filter(pc.equal(table.column("subset"), "validation")).sort_by("utterance_id").to_pylist()
    rows = [validation[index] for index in evenly_spaced(len(validation), params.checkpoint_utterances)]
    if len(folders) == 1 or not rows:
        return []
    references: dict[str, list[Sound]] = {}
    scored = []
    for folder in folders:
        logger.info("evaluate: scoring %s on %d validation utterances", folder, len(rows))
        checkpoint = _load(folder)
        renditions = render_all(checkpoint, rows, resample, params.style(checkpoint.style))
        references = references or speaker_references(
            table, resample, {row["speaker"] for row in rows}, renditions[0].sample_rate_hz
        )
        _, summary = score(renditions, evaluator, references, ScoringSettings(anchors=0, threads=worker_count()))
        scored.append(checkpoint_row(voice, folder, checkpoint.metadata, summary))
    return scored


def _load(folder: Path) -> Voice:
    try:
        return Voice(folder, os.environ.get("VOICE_DEVICE", "cpu"))
    except CheckpointError as error:
        raise PipelineError(f"evaluate: {error}") from None


def main(
    split: Path, resample: Path, voice: Path, report: Path, metrics: Path, speed_metrics: Path, params: EvaluateParams
) -> None:
    """Synthesise and score the test utterances.

    Reads the split manifest, the resampled audio and the voice. Writes one folder with the scores
    (utterances.parquet), the versions of networks and packages (evaluators.json), plots, the sounds and the listening
    page (index.html), and with `checkpoint_utterances` the scores of kept checkpoints (checkpoints.csv). Writes the
    summary as metrics.json, and the time and memory of the synthesis, which vary between runs, as speed.json.
    """
    table = manifests.read_manifest(split / "split.parquet", manifests.SPLIT)
    rows = table.filter(pc.equal(table.column("subset"), "test")).to_pylist()[: params.max_utterances]
    if not rows:
        raise PipelineError("evaluate: the test set is empty; raise split.test_share")
    torch.set_num_threads(1)  # the figures must not depend on the number of cores
    network = _load(voice)
    renditions = render_all(network, rows, resample, params.style(network.style))
    peak_memory_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    evaluator = PerceptualEvaluator(work_root() / "whisper", params.hear, threads=worker_count())
    references = speaker_references(table, resample, {row["speaker"] for row in rows}, renditions[0].sample_rate_hz)
    scores, summary = score(renditions, evaluator, references, ScoringSettings(params.anchors, threads=worker_count()))
    checkpoints = score_checkpoints(voice, table, resample, evaluator, params)
    evaluators = {
        "test_set": test_set(renditions),
        "anchors": params.anchors,
        "speaker_recordings": SPEAKER_RECORDINGS,
        "networks": evaluator.lineage,
        "signals": package_versions("pyworld", "numpy", "scipy", "soxr"),
    }
    with output_folder(report) as folder:
        write_json(folder / "evaluators.json", evaluators)
        facts = {"step": network.metadata["step"], "voice_sha256": checkpoint_sha256(voice), "evaluators": evaluators}
        write_report(folder, renditions, scores, facts, network)
        if checkpoints:
            write_checkpoints(folder / CHECKPOINTS_TABLE, checkpoints)
    write_json(metrics, summary)
    write_json(speed_metrics, speed(scores, peak_memory_bytes))
    logger.info("evaluate: report in %s", report / "index.html")


def write_report(
    folder: Path, renditions: Sequence[Rendition], scores: list[dict[str, Any]], facts: dict[str, Any], voice: Voice
) -> None:
    """Write the table of scores (with `facts` in its metadata), plots, sounds and the listening page into a folder."""
    manifests.write_manifest(folder / "utterances.parquet", manifests.table_from_rows(scores, ROW_SCHEMA, facts))
    write_plots(folder / "plots", scores)
    write_renditions(folder, renditions, _about(voice))
    write_listening_page(folder / "index.html", {ONLY: folder}, f"Listening to {', '.join(voice.speakers)}")


def test_set(renditions: Sequence[Rendition]) -> str:
    """Return the hash of the test set's texts and recordings: only experiments on the same test set are comparable."""
    digest = hashlib.sha256()
    for rendition in sorted(renditions, key=lambda each: each.utterance_id):
        digest.update(
            json.dumps([rendition.utterance_id, rendition.text, rendition.sample_rate_hz], ensure_ascii=False).encode(
                "utf-8"
            )
        )
        digest.update(np.ascontiguousarray(rendition.recording, dtype="<f4").tobytes())
    return digest.hexdigest()


def _pcm(reader: ShardReader, row: dict[str, Any]) -> np.ndarray:
    return reader.read_array(row["pcm_shard"], row["pcm_offset_bytes"], (row["n_samples"],), "int16")


def _samples(pcm: np.ndarray) -> np.ndarray:
    return (pcm / 32768.0).astype(np.float32)


def _about(voice: Voice) -> dict[str, Any]:
    """Return the facts about the voice that pages show, and the attribution of its recordings."""
    parameters = sum(parameter.numel() for parameter in voice.network.parameters())
    facts = {
        "training steps": f"{voice.metadata['step']:,}",
        "parameters": f"{parameters / 1e6:.1f} million",
        "sample rate": f"{voice.spectrogram.sample_rate_hz:,} Hz",
        "speakers": ", ".join(voice.speakers),
    }
    return {"facts": facts, "attribution": str(voice.metadata["source_note"])}
