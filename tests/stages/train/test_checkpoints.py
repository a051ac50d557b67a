"""Which weights are kept: the last, the best by a validation value, their average, and what the table says of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from stages.train.checkpoints import (
    Average,
    Kept,
    averaged_steps,
    best_steps,
    describe_choice,
    kept_at_the_end,
    ranked_steps,
    worth_storing,
    write_table,
)
from stages.train.settings import KeepParams
from tests.stages.train.program import tiny_params

MELS = {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.0, 50: math.nan}
LOG = [
    {"step": 5.0, "train/mel": 9.0},
    *({"step": float(step), "validation/mel": mel, "validation/kl": -mel} for step, mel in MELS.items()),
]


def test_the_best_are_the_lowest_the_earlier_of_equals_and_never_one_that_is_not_a_number() -> None:
    assert best_steps(LOG, KeepParams(last=1, best=5, by="mel")) == [20, 40, 30, 10, 50]
    assert best_steps(LOG, KeepParams(last=1, best=2, by="kl")) == [10, 30]
    assert best_steps(LOG, KeepParams(last=1, best=0, by="mel")) == []


@pytest.mark.parametrize(
    ("last", "best", "voice", "expected"),
    [
        (1, 0, "last", Kept(50, ())),
        (1, 1, "last", Kept(50, (20,))),
        (3, 1, "last", Kept(50, (20, 30, 40))),
        (2, 1, "best", Kept(20, (40, 50))),
        (2, 1, 40, Kept(40, (20, 50))),
    ],
)
def test_what_is_kept_at_the_end(last: int, best: int, voice: str | int, expected: Kept) -> None:
    params = tiny_params(voice=voice, keep={"last": last, "best": best, "by": "mel"}, optimisation__steps=50)
    assert kept_at_the_end(LOG, params) == expected


def test_steps_where_a_metric_could_not_be_measured_are_no_candidates() -> None:
    measured = {10: 5.0, 20: 3.5, 30: None, 40: None, 50: 3.5}
    log = [
        {"step": float(step), "validation/mel": 1.0, **({"validation/mcd_db": value} if value else {})}
        for step, value in measured.items()
    ]
    keep = KeepParams(best=1, by="mcd_db")
    assert (
        ranked_steps(log, keep) == [20, 50, 10] and best_steps(log, keep) == [20] and worth_storing(log, keep) == {20}
    )


def test_where_nothing_could_be_measured_the_last_weights_are_the_voice(caplog: pytest.LogCaptureFixture) -> None:
    params = tiny_params(voice="best", keep={"by": "mcd_db"})
    kept = kept_at_the_end(LOG, params)
    assert (
        kept == Kept(50, ())
        and "mcd_db could not be measured at any step; the last weights become the voice" in caplog.text
    )
    assert describe_choice(LOG, params, kept, None) == {
        "voice": "best",
        "by": "mcd_db",
        "step": 50,
        "value": None,
        "runner_up": None,
    }


def test_the_choice_names_the_best_other_step_and_the_average() -> None:
    average = Average((40, 50), {}, {"mel": 0.5})
    params = tiny_params(voice="best", keep={"last": 1, "best": 1, "by": "mel", "average": 2})
    means = {"averaged_steps": [40, 50], "average_value": 0.5}
    assert describe_choice(LOG, params, kept_at_the_end(LOG, params), average) == {
        "voice": "best",
        "by": "mel",
        "step": 20,
        "value": 1.0,
        "runner_up": {"step": 40, "value": 1.0},
        **means,
    }
    params = tiny_params(voice="average", keep={"last": 1, "best": 1, "by": "mel", "average": 2})
    kept = kept_at_the_end(LOG, params)
    assert kept == Kept(None, (20, 50))
    assert describe_choice(LOG, params, kept, average) == {
        "voice": "average",
        "by": "mel",
        "step": None,
        "value": 0.5,
        "runner_up": {"step": 20, "value": 1.0},
        **means,
    }


@pytest.mark.parametrize(
    ("last", "best", "average"), [(1, 0, 0), (1, 1, 0), (2, 1, 0), (3, 2, 0), (1, 1, 3), (1, 0, 2), (3, 1, 2)]
)
def test_what_the_end_needs_was_worth_storing_all_along_and_nothing_else(last: int, best: int, average: int) -> None:
    keep = KeepParams(last, best, "mel", average)
    kept = kept_at_the_end(LOG, tiny_params(keep=vars(keep)))
    assert len(averaged_steps(LOG, keep)) == average
    assert all(len(worth_storing(LOG[:n], keep)) <= best + max(last, average) for n in range(len(LOG) + 1))
    for step in {*kept.extra, *averaged_steps(LOG, keep)} - {50}:  # the last is the trainer's own
        since = [row for row in LOG if row["step"] >= step]
        assert all(step in worth_storing([row for row in LOG if row["step"] <= upto["step"]], keep) for upto in since)


def test_the_table_lists_every_validated_step(tmp_path: Path) -> None:
    write_table(tmp_path / "checkpoints.csv", LOG[:4], KeepParams(), Kept(30, (20,)), None)
    expected = [
        "step,folder,place_by_mel,kl,mel",
        "10,,3,-3.0,3.0",
        "20,voice/checkpoints/step-000020,1,-1.0,1.0",
        "30,voice,2,-2.0,2.0",
    ]
    assert (tmp_path / "checkpoints.csv").read_text(encoding="utf-8").splitlines() == expected


@pytest.mark.parametrize(("voice", "folder"), [(30, "voice/checkpoints/average"), (None, "voice")])
def test_the_average_has_a_row_below_the_steps(tmp_path: Path, voice: int | None, folder: str) -> None:
    average = Average((20, 30), {"weight": torch.zeros(1)}, {"mel": 0.5})
    write_table(tmp_path / "checkpoints.csv", LOG[:4], KeepParams(average=2), Kept(voice, ()), average)
    assert (tmp_path / "checkpoints.csv").read_text(encoding="utf-8").splitlines()[-1] == f"20+30,{folder},,,0.5"
