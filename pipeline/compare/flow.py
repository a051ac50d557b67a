"""The comparison as a Prefect flow, with its table as an artifact."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact

from pipeline.compare.compare import PAGE, compare, sentences
from pipeline.compare.comparison import Comparison
from pipeline.compare.page import markdown_table

ARTIFACT = "comparison"


@task(task_run_name="compare {names}")
async def compare_names(names: list[str], root: str, out: str, ratings: list[str]) -> Comparison:
    """Compare in a thread, so that the flow stays responsive."""
    return await asyncio.to_thread(compare, Path(root), names, Path(out), [Path(path) for path in ratings])


@flow(name="compare")
async def compare_flow(
    names: list[str], root: str = ".", out: str = "comparison", ratings: Sequence[str] = ()
) -> list[str]:
    """Compare experiments as `voice-factory compare` does; return the verdicts and create the table as an artifact."""
    comparison = await compare_names(names, root, out, list(ratings))
    logger = get_run_logger()
    for line in (*comparison.warnings, *sentences(comparison), *comparison.verdicts):
        logger.info(line)
    await acreate_markdown_artifact(
        markdown_table(comparison), key=ARTIFACT, description=f"page: {(Path(out) / PAGE).resolve()}"
    )
    return comparison.verdicts
