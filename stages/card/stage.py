"""Card stage: a page about a voice with its recordings and licences, metrics, limits and lineage."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from model.checkpoints.checkpoint import CheckpointError, checkpoint_sha256, read_listing
from model.settings import Settings
from stages.card.card import (
    as_text,
    join,
    language_name,
    licence_files,
    limits,
    lineage_of,
    measure,
    recordings_facts,
    render_markdown,
    render_page,
)
from stages.common import manifests
from stages.common.errors import PipelineError
from stages.common.files import output_folder, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CardParams(Settings):
    """What no measurement tells: what the voice is meant for, and under which licence it is given away (null: it is not
    said).
    """

    intended_use: str
    licence: str | None


def check_evaluated_voice(voice: Path, evaluation: Path) -> str:
    """Return the hash of the voice; raises PipelineError if the evaluation is of another one."""
    try:
        sha256 = checkpoint_sha256(voice)
    except CheckpointError as error:
        raise PipelineError(f"card: {error}") from None
    evaluated = manifests.read_metadata(evaluation / "utterances.parquet").get("voice_sha256")
    if evaluated != sha256:
        raise PipelineError(
            f"card: {evaluation} is of another voice ({evaluated}) than {voice} ({sha256}); run `dvc repro evaluate`"
        )
    return sha256


def main(split: Path, corpus: Path, voice: Path, evaluation: Path, card: Path, params: CardParams) -> None:
    """Write a voice's card.

    Reads the split manifest, the recordings' folder (from the corpus manifest), the voice and its evaluation. Writes
    card.md, the same as card.html, the figures as card.json, and copies of the recordings' licences.
    """
    voice_sha256 = check_evaluated_voice(voice, evaluation)
    checkpoint = read_listing(voice)
    metadata = checkpoint["metadata"]
    columns = ["utterance_id", "subset", "speaker", "language", "synthetic", "n_samples"]
    rows = manifests.read_manifest(split / "split.parquet", manifests.SPLIT, columns).to_pandas()
    tested = pq.read_table(evaluation / "utterances.parquet").to_pylist()
    measured = measure(tested)
    languages = sorted({row["language"] for row in tested})
    licences = licence_files(Path(manifests.read_metadata(corpus / "corpus.parquet")["recordings"]))
    evaluators = evaluation / "evaluators.json"
    text = render_markdown(
        {
            "title": join(metadata["speakers"]),
            "metadata": metadata,
            "params": params,
            "measured": measured,
            "language_name": language_name,
            "limits": list(limits(rows[rows["subset"] == "train"], metadata, measured, len(tested))),
            "by_language": {
                language: measure([row for row in tested if row["language"] == language]) for language in languages
            },
            "n_tested": len(tested),
            "licences": [path.name for path in licences],
            "files": {
                "voice (metadata.json)": voice_sha256,
                **{f"{name} (weights)": entry["sha256"] for name, entry in sorted(checkpoint["files"].items())},
            },
            "lineage": lineage_of(metadata),
            "evaluators": as_text(json.loads(evaluators.read_text(encoding="utf-8"))) if evaluators.is_file() else {},
            **recordings_facts(rows, metadata),
        },
    )
    figures = {
        one.metric.key: {"voice": asdict(one.voice), "recordings": one.recordings and asdict(one.recordings)}
        for one in measured
    }
    with output_folder(card) as folder:
        (folder / "card.md").write_text(text, encoding="utf-8")
        (folder / "card.html").write_text(render_page(join(metadata["speakers"]), text), encoding="utf-8")
        write_json(
            folder / "card.json",
            {"voice_sha256": voice_sha256, "step": metadata["step"], "n_tested": len(tested), "metrics": figures},
        )
        for path in licences:
            shutil.copyfile(path, folder / path.name)
    logger.info("card: %s", card / "card.html")
