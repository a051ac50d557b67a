"""Checks of settings against data before any training, the aligner's included."""

from __future__ import annotations

import logging
from typing import Any

from model.config import ModelConfig
from model.training.sampler import BatchSampler, padding_share
from stages.common.errors import PipelineError
from stages.train.manifest_source import ManifestSource
from stages.train.settings import TrainParams

logger = logging.getLogger(__name__)


def check_data(
    params: TrainParams, config: ModelConfig, train: ManifestSource, validation: ManifestSource, n_ranks: int
) -> None:
    """Raise PipelineError, with numbers and remedy, for subsets that these settings cannot train on."""
    if len(train) == 0:
        raise PipelineError("train: the train set is empty; see the split stage's rejects.parquet")
    if len(validation) == 0:
        raise PipelineError(
            f"train: the validation set is empty ({len(train)} utterances are for training); "
            "raise split.validation_share"
        )
    longest = int(train.n_frames.max())
    if longest < config.segment_frames:
        raise PipelineError(
            f"train: train.model.segment_frames {config.segment_frames} is longer than every utterance "
            f"(longest: {longest} frames); lower it to {longest} or less"
        )
    together = n_ranks * params.optimisation.batch_size
    if together > len(train):
        remedy = (
            f"lower batch_size to {len(train) // n_ranks} or less"
            if len(train) >= n_ranks
            else f"lower train.ranks to {len(train)} or less"
        )
        raise PipelineError(
            f"train: a step takes {together} utterances (train.optimisation.batch_size "
            f"{params.optimisation.batch_size} × {n_ranks} {'rank' if n_ranks == 1 else 'ranks'}), "
            f"but the train set has {len(train)}; {remedy}"
        )


def describe_batches(sampler: BatchSampler, source: ManifestSource) -> dict[str, Any]:
    """Return statistics of the first epoch's batches, with the ids of repeated and of overlong utterances."""
    plan = sampler.plan(0)
    repeated, too_long = (
        sorted(source.row(index)["utterance_id"] for index in indices) for indices in (plan.repeated, sampler.too_long)
    )
    padding = padding_share(sampler.n_frames, (batch for step in plan.steps for batch in step))
    logger.info(
        "train: %d utterances in %d steps an epoch, %.1f %% padding, %d repeated, %d too long to share a batch",
        len(source),
        len(plan.steps),
        100 * padding,
        len(repeated),
        len(too_long),
    )
    return {
        "utterances": len(source),
        "steps": len(plan.steps),
        "ranks": sampler.n_ranks,
        "padding_share": round(padding, 6),
        "repeated": repeated,
        "longer_than_max_batch_frames": too_long,
    }
