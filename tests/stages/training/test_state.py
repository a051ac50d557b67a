"""The resumable state: written whole, read back exactly, with the random state it was saved in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stages.common.errors import PipelineError
from stages.training.state import Position, RunningMeans, load_state, save_state


def test_a_state_comes_back_with_its_random_numbers(tmp_path: Path) -> None:
    torch.manual_seed(3)
    torch.rand(5)
    save_state(tmp_path / "state.pt", {"weight": torch.arange(3.0)}, Position(2, 7), [{"step": 1.0, "train/mel": 0.5}], RunningMeans())
    expected = torch.rand(4)
    torch.manual_seed(99)
    state = load_state(tmp_path / "state.pt", rank=0)
    assert state is not None
    assert torch.equal(state["trainer"]["weight"], torch.arange(3.0))
    assert (state["epoch"], state["batch"], state["log"]) == (2, 7, [{"step": 1.0, "train/mel": 0.5}])
    assert torch.equal(torch.rand(4), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_without_a_state_a_run_starts_anew_and_draws_as_before(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert load_state(tmp_path / "state.pt", rank=0) is None
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("n_kept", [0, 10, 400])
def test_a_damaged_state_is_an_error_that_says_what_to_do(tmp_path: Path, n_kept: int) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"weight": torch.arange(300.0)}, Position(), [], RunningMeans())
    path.write_bytes(path.read_bytes()[:n_kept])
    with pytest.raises(PipelineError, match=r"state\.pt: not a readable training state .*; delete it to start this run anew"):
        load_state(path, rank=0)
