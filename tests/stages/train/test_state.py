"""The resumable state: written whole, checked when read, with the random state it was saved in."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from model.networks.random_draws import isolated_random_state
from stages.common.errors import PipelineError
from stages.train import state
from stages.train.state import (
    DamagedStateError,
    Position,
    RunningMeans,
    RunState,
    read_state,
    restore_random_state,
    save_state,
    state_files,
)


def test_a_state_comes_back_with_its_random_numbers(tmp_path: Path) -> None:
    run = RunState(
        Position(2, 7),
        [{"step": 1.0, "train/mel": 0.5}],
        RunningMeans({"mel": 1.5}, {"mel": 2}),
        {"samples/step-00000010": "ab"},
        {"sha256": "cd"},
        1.25,
        "budget.epochs",
    )
    torch.manual_seed(3)
    torch.rand(5)
    save_state(tmp_path, 12, {"weight": torch.arange(3.0)}, run)
    expected = torch.rand(4)
    torch.manual_seed(99)
    loaded = read_state(state_files(tmp_path)[12])
    restore_random_state(loaded, rank=0)
    assert torch.equal(loaded["trainer"]["weight"], torch.arange(3.0))
    assert RunState.from_dict(loaded["run"]) == run
    assert torch.equal(torch.rand(4), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000012.pt"]


def test_the_newest_two_states_up_to_the_one_saved_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    for name in ("state.pt", "state-4.pt", "state-00000004.pt.old"):
        (tmp_path / name).write_bytes(b"somebody's")
    for step in (4, 8, 20, 12):
        save_state(tmp_path, step, {}, RunState())
    # The one of step 20 was damaged, or the run would not have gone back behind it.
    assert list(state_files(tmp_path)) == [20, 12, 8]
    assert all(
        (tmp_path / name).read_bytes() == b"somebody's" for name in ("state.pt", "state-4.pt", "state-00000004.pt.old")
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:400],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
    ],
)
def test_a_damaged_state_is_noticed(tmp_path: Path, damage: Any) -> None:
    save_state(tmp_path, 1, {"weight": torch.arange(3000.0)}, RunState())
    path = state_files(tmp_path)[1]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedStateError, match="truncated or altered"):
        read_state(path)


def test_a_full_disk_is_a_clear_error_and_costs_no_earlier_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(tmp_path, 4, {"weight": torch.arange(3000.0)}, RunState())
    before = state_files(tmp_path)[4].read_bytes()

    def fails(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state.torch, "save", fails)
    with pytest.raises(
        PipelineError,
        match=r"state-00000008\.pt: cannot save the training state \(No space left on device\); free some space",
    ):
        save_state(tmp_path, 8, {}, RunState())
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000004.pt"] and state_files(tmp_path)[
        4
    ].read_bytes() == before


def test_what_happens_inside_disturbs_no_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with isolated_random_state(torch.device("cpu")):
        first = torch.rand(4)
    assert torch.equal(torch.rand(4), expected)
    with isolated_random_state(torch.device("cpu")):
        assert torch.equal(torch.rand(4), first)


def test_means_start_again_when_taken() -> None:
    means = RunningMeans()
    for value in (1.0, 3.0):
        means.add({"mel": value})
    assert means.take() == {"mel": 2.0} and means.take() == {}
