"""Recordings are hashed in every run, and decoded and measured once per content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from stages.audio import decode as audio
from stages.audio.voice_activity import PACKAGES as SPEECH_PACKAGES
from stages.common.code_graph import code_version
from stages.common.errors import RowRejected
from stages.common.files import content_key
from stages.common.progress import progress_bar
from stages.corpus.recordings import MeasureSettings, describe
from stages.rows.engine import FinishedRow, FinishedRows, Row, RowResult, compute_each, run_rows
from stages.rows.executors import map_unordered

HASH_CHUNK_FILES = 64
HASH_FILES_PER_PROCESS = 1024  # fewer are not worth starting a process
HASH_BYTES = 48  # SHA-256 and XXH3
PACKAGES = ("av", "numpy", "pyloudnorm", "scipy", "soundfile")


class DescribedRecordings:
    """Facts and hashes of every recording, or its rejection, in the order of utterance ids. Iterable repeatedly."""

    def __init__(
        self, ids: Sequence[str], hashes: bytearray, unreadable: Mapping[str, tuple[str, str]], outcome: FinishedRows
    ) -> None:
        self._ids = ids
        self._hashes = hashes
        self._unreadable = unreadable
        self._outcome = outcome

    def __iter__(self) -> Iterator[FinishedRow]:
        finished = iter(self._outcome)
        for number, utterance_id in enumerate(self._ids):
            if utterance_id in self._unreadable:
                yield FinishedRow(utterance_id, {}, 0, 0, self._unreadable[utterance_id])
                continue
            row = next(finished)
            sha256, xxh3 = _hashes_of(self._hashes, number)
            yield row if row.rejected else replace(row, facts={"audio_sha256": sha256, "audio_xxh3": xxh3, **row.facts})


@contextmanager
def describe_recordings(
    stage: str, ids: Sequence[str], path_of: Callable[[str], Path], settings: MeasureSettings
) -> Iterator[DescribedRecordings]:
    """Hash every recording, given sorted utterance ids, and measure those whose content is new.

    Limits are applied by the caller, so that changing a limit measures nothing again.
    """
    packages = {name: version(name) for name in (*PACKAGES, *(SPEECH_PACKAGES if settings.with_speech else ()))}
    key_parts = [asdict(settings), packages, code_version("stages.corpus.recordings")]
    hashes = bytearray(HASH_BYTES * len(ids))
    unreadable: dict[str, tuple[str, str]] = {}
    chunks = (
        [(number, str(path_of(ids[number]))) for number in range(start, min(start + HASH_CHUNK_FILES, len(ids)))]
        for start in range(0, len(ids), HASH_CHUNK_FILES)
    )
    with progress_bar(f"{stage}: hashes", len(ids), "file") as bar:
        n_processes = -(-len(ids) // HASH_FILES_PER_PROCESS)
        for start, packed, rejected in map_unordered(hash_chunk, chunks, max_processes=n_processes):
            hashes[HASH_BYTES * start : HASH_BYTES * start + len(packed)] = packed
            unreadable.update((ids[number], rejection) for number, rejection in rejected)
            bar.update(len(packed) // HASH_BYTES)

    def rows() -> Iterator[Row]:
        for number, utterance_id in enumerate(ids):
            if utterance_id not in unreadable:
                sha256, xxh3 = _hashes_of(hashes, number)
                path = path_of(utterance_id)
                yield Row(
                    utterance_id,
                    content_key(stage, sha256, path.suffix.lower(), key_parts),
                    audio.HashedFile(str(path), xxh3),
                )

    with run_rows(stage, rows, partial(describe_chunk, settings), None, isolated=True) as outcome:
        yield DescribedRecordings(ids, hashes, unreadable, outcome)


def _hashes_of(hashes: bytearray, number: int) -> tuple[str, str]:
    packed = hashes[HASH_BYTES * number : HASH_BYTES * (number + 1)]
    return packed[:32].hex(), packed[32:].hex()


def hash_chunk(items: Sequence[tuple[int, str]]) -> tuple[int, bytes, list[tuple[int, tuple[str, str]]]]:
    """Return (first number, packed hashes, rejections by number) of consecutive files; rejected files have zeros."""
    packed, rejected = bytearray(), []
    for number, path in items:
        try:
            packed += bytes.fromhex("".join(audio.hash_file(Path(path))))
        except RowRejected as error:
            packed += bytes(HASH_BYTES)
            rejected.append((number, (error.reason, error.detail)))
    return items[0][0], bytes(packed), rejected


def describe_chunk(settings: MeasureSettings, rows: Sequence[Row]) -> list[RowResult]:
    """Describe the recordings of a chunk of rows."""
    return compute_each(partial(describe, settings=settings), rows)
