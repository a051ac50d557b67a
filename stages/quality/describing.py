"""All recordings hashed, and those described whose content is new to the row store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.common import audio
from stages.common.code_graph import code_version
from stages.common.errors import RowRejected
from stages.common.executors import map_unordered
from stages.common.files import content_key
from stages.common.manifests import reject
from stages.common.rows import Row, RowResult, compute_each, run_rows
from stages.quality.recordings import HashedFile, Measuring, describe
from stages.quality.speech import PACKAGES as SPEECH_PACKAGES

HASH_CHUNK_FILES = 64
PACKAGES = ("av", "numpy", "pyloudnorm", "scipy", "soundfile")


Hashes = dict[str, tuple[str, str]]  # utterance id → sha256, XXH3


def describe_all(
    stage: str, paths: Mapping[str, Path], measuring: Measuring
) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
    """Return the facts of every recording by utterance id, `audio_sha256` and `audio_xxh3` among them, and the rejects.

    Judging is not its business: limits may change without anything being measured again.
    """
    items = sorted(paths.items())
    chunks = (items[start : start + HASH_CHUNK_FILES] for start in range(0, len(items), HASH_CHUNK_FILES))
    packages = {name: version(name) for name in (*PACKAGES, *(SPEECH_PACKAGES if measuring.with_speech else ()))}
    settings = [asdict(measuring), packages, code_version("stages.quality.recordings")]
    hashes: Hashes = {}
    rejects: list[dict[str, str]] = []
    for readable, unreadable in map_unordered(partial(hash_chunk, stage), chunks):
        hashes.update(readable)
        rejects += unreadable

    def rows() -> Iterator[Row]:
        for utterance_id in sorted(hashes):
            sha256, xxh3 = hashes[utterance_id]
            path = paths[utterance_id]
            yield Row(utterance_id, content_key(stage, sha256, path.suffix.lower(), settings), HashedFile(str(path), xxh3))

    facts: dict[str, dict[str, Any]] = {}
    with run_rows(stage, rows, partial(describe_chunk, measuring), None) as outcome:
        for row in outcome:
            if row.rejected:
                rejects.append(reject(row.utterance_id, stage, *row.rejected))
            else:
                sha256, xxh3 = hashes[row.utterance_id]
                facts[row.utterance_id] = {"audio_sha256": sha256, "audio_xxh3": xxh3, **row.facts}
    return facts, rejects


def hash_chunk(stage: str, items: Sequence[tuple[str, Path]]) -> tuple[Hashes, list[dict[str, str]]]:
    """Return the hashes of utterances' files, and rejects for the files that cannot be read."""
    hashes: Hashes = {}
    rejects = []
    for utterance_id, path in items:
        try:
            hashes[utterance_id] = audio.hash_file(path)
        except RowRejected as error:
            rejects.append(reject(utterance_id, stage, error.reason, error.detail))
    return hashes, rejects


def describe_chunk(measuring: Measuring, rows: Sequence[Row]) -> list[RowResult]:
    """Describe the recordings of a chunk of rows."""
    return compute_each(partial(describe, measuring=measuring), rows)
