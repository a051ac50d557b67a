"""Which weights are kept: the last, the best by a validation value, and where the table says they are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from stages.training.checkpoints import Kept, best_steps, kept_at_the_end, worth_storing, write_table
from stages.training.settings import KeepParams
from tests.stages.training.program import tiny_params

MELS = {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.0, 50: math.nan}
LOG = [{"step": 5.0, "train/mel": 9.0}, *({"step": float(step), "validation/mel": mel, "validation/kl": -mel} for step, mel in MELS.items())]


def test_the_best_are_the_lowest_the_earlier_of_equals_and_never_one_that_is_not_a_number() -> None:
    assert best_steps(LOG, KeepParams(last=1, best=5, by="mel")) == [20, 40, 30, 10, 50]
    assert best_steps(LOG, KeepParams(last=1, best=2, by="kl")) == [10, 30]
    assert best_steps(LOG, KeepParams(last=1, best=0, by="mel")) == []


@pytest.mark.parametrize(
    ("last", "best", "voice", "expected"),
    [(1, 0, "last", Kept(50, ())), (1, 1, "last", Kept(50, (20,))), (3, 1, "last", Kept(50, (20, 30, 40))), (2, 1, "best", Kept(20, (40, 50)))],
)
def test_what_is_kept_at_the_end(last: int, best: int, voice: str, expected: Kept) -> None:
    params = tiny_params(voice=voice, keep={"last": last, "best": best, "by": "mel"})
    assert kept_at_the_end(LOG, params) == expected


@pytest.mark.parametrize(("last", "best"), [(1, 0), (1, 1), (2, 1), (3, 2)])
def test_what_the_end_needs_was_worth_storing_all_along(last: int, best: int) -> None:
    keep = KeepParams(last, best, "mel")
    kept = kept_at_the_end(LOG, tiny_params(keep=vars(keep)))
    for step in kept.extra:
        since = [row for row in LOG if row["step"] >= step]
        assert all(step in worth_storing([row for row in LOG if row["step"] <= upto["step"]], keep) for upto in since)


def test_the_table_lists_every_validated_step(tmp_path: Path) -> None:
    write_table(tmp_path / "checkpoints.csv", LOG[:4], Kept(30, (20,)))
    assert (tmp_path / "checkpoints.csv").read_text(encoding="utf-8").splitlines() == [
        "step,folder,kl,mel", "10,,-3.0,3.0", "20,voice/checkpoints/step-000020,-1.0,1.0", "30,voice,-2.0,2.0",
    ]  # fmt: skip
