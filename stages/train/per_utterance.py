"""Arrays that belong to utterances and are worked out once per run: durations, pitch."""

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
    again: str,
) -> list[list[Array]]:
    """Return, for each source, an array (…, L) of every utterance; all axes but the last are of one size.

    Rank 0 computes them and keeps them in `path`, whose folder belongs to this very run; the other ranks read it there.
    A truncated file costs a warning that says what is done `again`.
    """
    if rank == 0 and not _is_sound(path, again):
        _save(path, [array for source in compute() for array in source])
    if dist.is_initialized():
        dist.barrier()
    with np.load(path) as stored:
        every = np.split(stored["values"], stored["ends"][:-1], axis=-1)
    borders = np.cumsum([0, *(len(source) for source in sources)])
    return [every[start:end] for start, end in itertools.pairwise(borders)]


def _is_sound(path: Path, again: str) -> bool:
    if not path.is_file():
        return False
    try:
        with np.load(path) as stored:  # each member has a checksum
            return bool(stored["ends"].ndim == 1 and stored["values"].shape[-1] == stored["ends"][-1])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        logger.warning("%s: truncated or altered; %s", path, again)
        return False


def _save(path: Path, arrays: Sequence[Array]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, values=np.concatenate(arrays, axis=-1), ends=np.cumsum([array.shape[-1] for array in arrays]))
