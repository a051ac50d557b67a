"""Arrays per utterance that are computed once per run: durations and pitch."""

from __future__ import annotations

import itertools
import logging
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch.distributed as dist

from stages.common.files import atomic_path
from stages.train.manifest_source import ManifestSource

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]


def once_per_run(
    path: Path,
    sources: Sequence[ManifestSource],
    rank: int,
    compute: Callable[[], Iterable[Iterable[Array]]],
    remedy: str,
) -> list[list[Array]]:
    """Return, for each source, an array (…, L) of every utterance; all axes but the last are of one size.

    Rank 0 computes them and stores them in `path`, in the run's work folder, where the other ranks read them. A damaged
    file is computed again, with a warning that states the `remedy`.
    """
    if rank == 0 and not _is_intact(path, remedy):
        _save(path, [array for source in compute() for array in source])
    if dist.is_initialized():
        dist.barrier()
    with np.load(path) as stored:
        arrays = np.split(stored["values"], stored["ends"][:-1], axis=-1)
    borders = np.cumsum([0, *(len(source) for source in sources)])
    return [arrays[start:end] for start, end in itertools.pairwise(borders)]


def _is_intact(path: Path, remedy: str) -> bool:
    if not path.is_file():
        return False
    try:
        with np.load(path) as stored:  # each member has a checksum
            return bool(stored["ends"].ndim == 1 and stored["values"].shape[-1] == stored["ends"][-1])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        logger.warning("%s: truncated or altered; %s", path, remedy)
        return False


def _save(path: Path, arrays: Sequence[Array]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, values=np.concatenate(arrays, axis=-1), ends=np.cumsum([array.shape[-1] for array in arrays]))
