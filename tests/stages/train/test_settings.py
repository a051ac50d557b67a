"""Values of the train section that cannot work are refused, with the valid ones."""

from __future__ import annotations

from typing import Any

import pytest

from stages.common.errors import PipelineError
from stages.metrics.catalogue import BY_KEY
from stages.train.settings import SPOKEN_METRICS, MetricsParams
from tests.stages.train.program import tiny_params


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"posterior_input": "mfcc"}, "posterior_input should be 'mel' or 'linear', found 'mfcc'"),
        ({"ranks": 0}, "ranks should be greater than 0, found 0"),
        (
            {"optimisation__schedule": "linear"},
            "optimisation.schedule should be 'cosine' or 'epoch_decay', found 'linear'",
        ),
        ({"optimisation__betas": [0.9]}, "optimisation.betas[1] is missing"),
        ({"optimisation__learning_rte": 1.0}, "optimisation: unknown learning_rte; valid: "),
        ({"voice": "latest"}, "voice 'latest' is not one of last, best, average, nor a step"),
        ({"voice": 25}, "voice is step 25, but optimisation.steps is 24"),
        ({"voice": 0}, "voice is step 0, but optimisation.steps is 24"),
        ({"voice": True}, "voice.int should be a valid integer, found True"),
        (
            {"voice": "best", "keep": {"last": 1, "best": 0, "by": "mel"}},
            "voice is best, but keep.best is 0; set keep.best to 1",
        ),
        ({"keep": {"last": 0, "best": 1, "by": "mel"}}, "keep.last should be greater than 0, found 0"),
        (
            {"keep": {"last": 1, "best": 1, "by": "loss"}},
            "keep.by should be 'mel', 'kl', 'duration', 'mcd', 'mcd_db', 'f0_rmse_cents', 'voicing_error' or "
            "'duration_error', found 'loss'",
        ),
        ({"keep": {"average": 1}}, "average is 1; it must be at least 2, or 0 for none"),
        ({"voice": "average"}, "voice is average, but keep.average is 0; set keep.average to 3, say"),
        (
            {"keep": {"by": "mcd_db"}, "metrics": {"every": 0}},
            "keep.by is mcd_db, which is not measured; set metrics.every to 1",
        ),
        ({"metrics": {"utterances": 0}}, "metrics.utterances should be greater than 0, found 0"),
        ({"budget": {"epochs": 0, "minutes": None}}, "budget.epochs should be greater than 0, found 0"),
        ({"samples": {"every": -1, "utterances": 1}}, "samples.every should be greater than or equal to 0, found -1"),
    ],
)
def test_values_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        tiny_params(**changes)
    assert message in str(caught.value)


def test_the_lowest_value_of_every_validation_metric_is_the_best() -> None:
    assert not any(BY_KEY[key].higher_is_better for key in SPOKEN_METRICS)


@pytest.mark.parametrize(("every", "due"), [(0, [False] * 4), (1, [True] * 4), (3, [False, False, True, True])])
def test_metrics_are_measured_at_their_own_pace_and_always_at_the_end(every: int, due: list[bool]) -> None:
    params = MetricsParams(every=every)
    assert [params.due(number, last=number == 4) for number in (1, 2, 3, 4)] == due
