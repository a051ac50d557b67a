"""What a run shows in Prefect: a summary, tables of what was kept and rejected, metrics, pictures, and where the pages
lie.
"""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import acreate_image_artifact, acreate_markdown_artifact, acreate_table_artifact

from pipeline.repro.summary import CARD, REPORT, markdown_summary, stage_counts

CURVES = Path("reports/train/curves.png")
MAX_PICTURE_BYTES = 1 << 20


async def show_results(root: Path) -> None:
    """Leave the artifacts of a run over the project in `root`, as far as it came."""
    pages = {"listen": root / REPORT, "voice card": root / CARD}
    links = [f"- [{title}]({page.resolve().as_uri()})" for title, page in pages.items() if page.is_file()]
    summary = "\n\n".join([markdown_summary(root), *(["## Pages", "\n".join(links)] if links else [])])
    await acreate_markdown_artifact(
        summary, key="repro-summary", description="what the stages kept, the metrics, the pages"
    )
    rows = [
        {
            "stage": count.name,
            "kept": count.kept,
            "rejected": count.rejected,
            "reason": reason or "-",
            "utterances": number,
        }
        for count in stage_counts(root)
        for reason, number in (count.reasons or {"": 0}).items()
    ]
    if rows:
        await acreate_table_artifact(rows, key="utterances", description="utterances kept and rejected, by reason")
    picture = root / CURVES
    if picture.is_file() and picture.stat().st_size <= MAX_PICTURE_BYTES:
        from stages.reporting.pages import inline_png  # it imports matplotlib, which most runs do without

        await acreate_image_artifact(
            inline_png(picture.read_bytes()), key="training-curves", description="losses and validation by step"
        )
