"""Encode planned spans in batches of equal length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np

from model.bert.encoder import BertEncoder, EncoderSource, texts_per_batch
from model.bert.tokenizers import EncoderError
from stages.bert.devices import this_workers_device
from stages.common.errors import PipelineError
from stages.rows.engine import Row, RowResult, fixed_chunks, process_count, rejection
from stages.rows.executors import engine

WINDOW_ROWS = 8192  # rows that are grouped by length at a time


@lru_cache(maxsize=4)
def cached_encoder(source: EncoderSource, device: str) -> BertEncoder:
    """Return this process's encoder, loaded by the first call."""
    return BertEncoder(source, device)


def compute(devices: Sequence[str], rows: Sequence[Row]) -> list[RowResult]:
    """Encode a chunk of rows on this worker's device, batching those with the same encoder and length."""
    device = this_workers_device(devices)
    results: dict[str, RowResult] = {}
    groups: dict[tuple[EncoderSource, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.payload.source, len(row.payload.token_ids)), []).append(row)
    for (source, n_tokens), members in groups.items():
        encoder = cached_encoder(source, device)
        if n_tokens > encoder.max_tokens:
            detail = f"{n_tokens} word pieces; {source.name} takes {encoder.max_tokens}"
            results |= {row.key: rejection("too_many_tokens", detail) for row in members}
        else:
            results |= _encode_together(encoder, members)
    return [results[row.key] for row in rows]


def _encode_together(encoder: BertEncoder, rows: Sequence[Row]) -> dict[str, RowResult]:
    """Encode rows of one length; if that fails, encode them one by one, so that only the failing row is rejected."""
    try:
        features = encoder.encode([row.payload.token_ids for row in rows])
    except (RuntimeError, IndexError, MemoryError) as error:
        if len(rows) > 1:
            return {key: result for row in rows for key, result in _encode_together(encoder, [row]).items()}
        # Out-of-memory is transient, so it is not cached.
        lasting = not (isinstance(error, MemoryError) or "memory" in str(error).lower())
        return {
            rows[0].key: rejection(
                "encoder_failed", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", lasting
            )
        }
    results: dict[str, RowResult] = {}
    for row, array in zip(rows, features, strict=True):
        if np.isfinite(array).all():
            results[row.key] = ({"n_tokens": len(array), "n_channels": encoder.n_channels}, array.tobytes())
        else:
            results[row.key] = rejection(
                "not_finite", f"{int((~np.isfinite(array)).sum())} features are infinite or NaN in fp16"
            )
    return results


def batches(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    """Yield batches of rows with the same encoder and length, grouped within windows of `WINDOW_ROWS` rows."""
    remaining = iter(rows)
    while window := list(islice(remaining, WINDOW_ROWS)):
        groups: dict[tuple[str, int], list[Row]] = {}
        for row in window:
            groups.setdefault((row.payload.source.name, len(row.payload.token_ids)), []).append(row)
        for (_, n_tokens), members in sorted(groups.items(), key=lambda item: item[0]):
            yield from fixed_chunks(members, texts_per_batch(n_tokens))


def load_encoders(sources: Iterable[EncoderSource], device: str, n_rows: int) -> None:
    """Load every encoder before any row is computed; raises PipelineError for one that cannot be used."""
    try:
        for source in sources:
            cached_encoder(source, device)
    except EncoderError as error:
        raise PipelineError(f"bert: {error}") from None
    if process_count(n_rows) > 1 or engine() == "ray":  # workers load their own; these would only occupy memory
        cached_encoder.cache_clear()
