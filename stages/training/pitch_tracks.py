"""The pitch of every utterance, tracked once per run, for models that read it."""

from __future__ import annotations

import itertools
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch.distributed as dist

from model.pitch import pitch_features
from stages.common.files import atomic_path
from stages.common.progress import progress_bar
from stages.common.training_data import ManifestSource

logger = logging.getLogger(__name__)


def attach_pitch(sources: Sequence[ManifestSource], path: Path, rank: int) -> None:
    """Give each source the pitch features (2, T) of its utterances.

    Rank 0 tracks them and keeps them in `path`, whose folder belongs to this very run; the other ranks read it there.
    """
    if rank == 0 and not _is_readable(path):
        _save(path, [track for source in sources for track in _track(source)])
    if dist.is_initialized():
        dist.barrier()
    with np.load(path) as stored:
        every = np.split(stored["tracks"], stored["ends"][:-1], axis=1)
    borders = np.cumsum([0, *(len(source) for source in sources)])
    for source, (start, end) in zip(sources, itertools.pairwise(borders), strict=True):
        source.pitch = every[start:end]


def _track(source: ManifestSource) -> list[npt.NDArray[np.float32]]:
    settings = source.facts.spectrogram
    tracks = []
    with progress_bar("pitch", len(source), "utterance") as bar:
        for index, n_frames in enumerate(source.n_frames):
            tracks.append(pitch_features(source.pcm(index), settings.sample_rate_hz, settings.hop_samples, int(n_frames)))
            bar.update(1)
    return tracks


def _save(path: Path, tracks: list[npt.NDArray[np.float32]]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, tracks=np.concatenate(tracks, axis=1), ends=np.cumsum([track.shape[1] for track in tracks]))


def _is_readable(path: Path) -> bool:
    """Return whether a finished file is there; a truncated one is made anew."""
    if not path.is_file():
        return False
    try:
        with np.load(path) as stored:  # each member has a checksum
            return all(stored[name].ndim == n_axes for name, n_axes in (("tracks", 2), ("ends", 1)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        logger.warning("%s: truncated or altered; the pitch is tracked again", path)
        return False
