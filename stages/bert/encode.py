"""Encode planned spans in batches of equal length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np

from model.bert.encoder import BertEncoder, EncoderError, EncoderSource, texts_per_batch
from stages.bert.devices import this_workers_device
from stages.common.errors import PipelineError
from stages.rows import machine_settings
from stages.rows.engine import Row, RowResult, fixed_chunks, rejection

WINDOW_ROWS = 8192  # rows among which those of equal length go together

FEW_ROWS = 64


@lru_cache(maxsize=4)
def cached_encoder(source: EncoderSource, device: str) -> BertEncoder:
    return BertEncoder(source, device)


def compute(devices: Sequence[str], rows: Sequence[Row]) -> list[RowResult]:
    """Encode a chunk of rows on this worker's device; rows of equal length that share an encoder go through it
    together.
    """
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
    """Encode rows of one length. Where that fails, one by one, so that the row that cannot be encoded is the only
    reject.
    """
    try:
        features = encoder.encode([row.payload.token_ids for row in rows])
    except (RuntimeError, IndexError, MemoryError) as error:
        if len(rows) > 1:
            return {key: result for row in rows for key, result in _encode_together(encoder, [row]).items()}
        # Want of memory blames the moment: it is not remembered, the next run tries again.
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
                "not_finite", f"{int((~np.isfinite(array)).sum())} features are infinite or no numbers in fp16"
            )
    return results


def batches(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    """Yield chunks of rows that share an encoder and a length, as many as go through it together, of some thousand rows
    at a time.
    """
    remaining = iter(rows)
    while window := list(islice(remaining, WINDOW_ROWS)):
        groups: dict[tuple[str, int], list[Row]] = {}
        for row in window:
            groups.setdefault((row.payload.source.name, len(row.payload.token_ids)), []).append(row)
        for (_, n_tokens), members in sorted(groups.items(), key=lambda item: item[0]):
            yield from fixed_chunks(members, texts_per_batch(n_tokens))


def load_encoders(sources: Iterable[EncoderSource], device: str, n_rows: int) -> bool:
    """Load every encoder once before any work, so that one that cannot be used ends the run here; returns whether the
    rows are so few
    that this process does them sooner than others would start. Raises PipelineError."""
    try:
        for source in sources:
            cached_encoder(source, device)
    except EncoderError as error:
        raise PipelineError(f"bert: {error}") from None
    few = n_rows <= FEW_ROWS
    if (
        not few and machine_settings.worker_count() > 1
    ):  # the workers load their own: this process would only hold the memory
        cached_encoder.cache_clear()
    return few
