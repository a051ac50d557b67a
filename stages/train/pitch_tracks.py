"""Pitch of every utterance, tracked once per run, for models that need it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.audio.pitch import pitch_features
from stages.common.progress import progress_bar
from stages.train.manifest_source import ManifestSource
from stages.train.per_utterance import once_per_run


def attach_pitch(sources: Sequence[ManifestSource], path: Path, rank: int) -> None:
    """Set each source's pitch features (2, T) of its utterances, stored in `path`."""
    tracks = once_per_run(
        path, sources, rank, lambda: [_track(source) for source in sources], "tracking the pitch again"
    )
    for source, own in zip(sources, tracks, strict=True):
        source.pitch = own


def _track(source: ManifestSource) -> list[npt.NDArray[np.float32]]:
    settings = source.facts.spectrogram
    tracks = []
    with progress_bar("pitch", len(source), "utterance") as bar:
        for index, n_frames in enumerate(source.n_frames):
            tracks.append(
                pitch_features(source.pcm(index), settings.sample_rate_hz, settings.hop_samples, int(n_frames))
            )
            bar.update(1)
    return tracks
