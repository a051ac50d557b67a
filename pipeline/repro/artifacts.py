"""Prefect artifacts of a run: summary, utterance counts, metrics, training curves and links to the pages."""

from __future__ import annotations

import json
from pathlib import Path

from prefect.artifacts import acreate_image_artifact, acreate_markdown_artifact, acreate_table_artifact

from pipeline.repro.summary import CARD, REPORT, markdown_summary, utterance_counts

CURVES = Path("reports/train/curves.png")
MAX_PICTURE_BYTES = 1 << 20


async def create_artifacts(root: Path) -> None:
    """Create the artifacts of a run in `root` from the outputs that exist."""
    pages = {"listen": root / REPORT, "voice card": root / CARD}
    links = [f"- [{title}]({page.resolve().as_uri()})" for title, page in pages.items() if page.is_file()]
    summary = "\n\n".join([markdown_summary(root), *(["## Pages", "\n".join(links)] if links else [])])
    await acreate_markdown_artifact(summary, key="repro-summary", description="utterances, metrics and pages")
    if rows := json.loads(utterance_counts(root).to_json(orient="records")):
        await acreate_table_artifact(rows, key="utterances", description="kept and rejected utterances, with reasons")
    picture = root / CURVES
    if picture.is_file() and picture.stat().st_size <= MAX_PICTURE_BYTES:
        from stages.reporting.pages import inline_png  # imports matplotlib

        await acreate_image_artifact(
            inline_png(picture.read_bytes()), key="training-curves", description="losses and validation by step"
        )
