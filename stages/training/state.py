"""The resumable state of a training run: written atomically, read only by the very same run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from stages.common.errors import PipelineError
from stages.common.files import atomic_path


@dataclass
class Position:
    """Where in the data a run stands: the next batch is number `batch` of epoch `epoch`."""

    epoch: int = 0
    batch: int = 0


@dataclass
class RunningMeans:
    """Means of named values since the last reset."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: dict[str, float]) -> None:
        """Count one step's values."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Return the means and start again."""
        means = {name: self.sums[name] / self.counts[name] for name in sorted(self.sums)}
        self.sums.clear()
        self.counts.clear()
        return means


def save_state(path: Path, trainer_state: dict[str, Any], position: Position, log: list[dict[str, float]], means: RunningMeans) -> None:
    """Write the run's state with every rank's random state; all ranks call it, rank 0 writes."""
    random_states = [torch.get_rng_state()]
    if dist.is_initialized():
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, torch.get_rng_state())
        random_states = gathered
    if dist.is_initialized() and dist.get_rank() != 0:
        return
    try:
        with atomic_path(path) as temporary:
            torch.save({"trainer": trainer_state, "epoch": position.epoch, "batch": position.batch, "log": log,
                        "means": {"sums": means.sums, "counts": means.counts},
                        "random_states": random_states, "cuda_random_states": _cuda_states()}, temporary)  # fmt: skip
    except OSError as error:
        raise PipelineError(f"{path}: cannot save the training state ({error.strerror or error}); free some space and run again") from None


def load_state(path: Path, rank: int) -> dict[str, Any] | None:
    """Return a saved state and restore this rank's random state, or None when there is none; a damaged one is an error."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports damage with half a dozen exception types
        raise PipelineError(f"{path}: not a readable training state ({type(error).__name__}); delete it to start this run anew") from None
    torch.set_rng_state(state["random_states"][rank])
    if torch.cuda.is_available() and state["cuda_random_states"]:
        torch.cuda.set_rng_state_all(state["cuda_random_states"])
    return state


def _cuda_states() -> list[torch.Tensor]:
    return list(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else []
