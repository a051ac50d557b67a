"""Evaluation folders as the evaluate stage leaves them, of small sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.common import manifests
from stages.evaluate.renditions import write_renditions
from stages.evaluate.scoring import ROW_SCHEMA
from stages.metrics.rendition import Rendition

ABOUT = {"facts": {"training steps": "1,200"}, "attribution": "Recordings: Ada, CC BY 4.0"}


def write_evaluation(
    folder: Path, renditions: Sequence[Rendition], rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any] = ABOUT
) -> Path:
    """Write utterances.parquet, renditions.parquet and audio/ into a folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    manifests.write_manifest(
        folder / "utterances.parquet", manifests.table_from_rows([dict(row) for row in rows], ROW_SCHEMA)
    )
    write_renditions(folder, renditions, about)
    return folder
