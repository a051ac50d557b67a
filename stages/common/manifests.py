"""Parquet manifests: declared schemas, validated on reading and writing, with facts about the whole as metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.errors import ManifestError
from stages.common.files import atomic_path

METADATA_KEY = b"voice"
OVER_LIMIT = "over_limit"  # excluded by a limit the user set: listed with the rejects, but not faulty
BATCH_ROWS = 1024  # in memory at a time
_MISSING = "{path}: no such manifest; run `dvc repro`, which makes it first"
_UNREADABLE = "{path}: not a readable Parquet file ({why}); delete it and run `dvc repro`"


def schema(**columns: pa.DataType) -> pa.Schema:
    """Return a schema of non-nullable columns."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def with_optional(columns: pa.Schema, **optional: pa.DataType) -> pa.Schema:
    """Return the schema with additional nullable columns."""
    return pa.schema([*columns, *(pa.field(name, kind) for name, kind in optional.items())])


CORPUS = with_optional(
    schema(
        utterance_id=pa.string(),
        speaker=pa.string(),
        language=pa.string(),
        text=pa.string(),
        audio_path=pa.string(),
        audio_sha256=pa.string(),
        audio_xxh3=pa.string(),
        container=pa.string(),
        sample_rate_hz=pa.int32(),
        n_channels=pa.int16(),
        n_samples=pa.int64(),
        synthetic=pa.bool_(),
        samples_xxh3=pa.string(),
        clipped_share=pa.float32(),
        dc_offset=pa.float32(),
    ),
    peak_dbfs=pa.float32(),
    loudness_lufs=pa.float32(),
    noise_floor_dbfs=pa.float32(),
    bandwidth_hz=pa.float32(),
    speech_share=pa.float32(),
    seconds_per_character=pa.float32(),
    duration_deviation=pa.float32(),
)
RESAMPLE = schema(
    utterance_id=pa.string(),
    shard=pa.int32(),
    offset_bytes=pa.int64(),
    n_samples=pa.int64(),
    pcm_xxh3=pa.string(),
    gain_db=pa.float32(),
    trimmed_start_seconds=pa.float32(),
    trimmed_end_seconds=pa.float32(),
)
CLEAN_TEXT = schema(
    utterance_id=pa.string(),
    language=pa.string(),
    normalised=pa.string(),
    words=pa.list_(pa.string()),
    word_starts=pa.list_(pa.int32()),
    word_ends=pa.list_(pa.int32()),
    word_languages=pa.list_(pa.string()),
    phones=pa.list_(pa.string()),
    tones=pa.list_(pa.int16()),
    word2ph=pa.list_(pa.int16()),
    note=pa.string(),
)
SPECTROGRAM = schema(
    utterance_id=pa.string(),
    shard=pa.int32(),
    offset_bytes=pa.int64(),
    n_frames=pa.int32(),
)
# A span's phones count the pads that belong to it; a span without features has no tokens.
BERT_SPAN = pa.struct(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in {
            "language": pa.string(),
            "n_phones": pa.int32(),
            "shard": pa.int32(),
            "offset_bytes": pa.int64(),
            "n_tokens": pa.int32(),
            "n_channels": pa.int32(),
        }.items()
    ]
)
# phone_tokens: for each phone with both pads, span after span, the token of its span that it takes.
BERT = schema(utterance_id=pa.string(), spans=pa.list_(BERT_SPAN), phone_tokens=pa.list_(pa.int16()))
SPLIT = schema(
    utterance_id=pa.string(),
    subset=pa.string(),
    speaker=pa.string(),
    language=pa.string(),
    synthetic=pa.bool_(),
    text=pa.string(),
    phones=pa.list_(pa.string()),
    tones=pa.list_(pa.int16()),
    pcm_shard=pa.int32(),
    pcm_offset_bytes=pa.int64(),
    n_samples=pa.int64(),
    spectrogram_shard=pa.int32(),
    spectrogram_offset_bytes=pa.int64(),
    n_frames=pa.int32(),
    bert_spans=pa.list_(BERT_SPAN),
    phone_tokens=pa.list_(pa.int16()),
)
REJECTS = schema(utterance_id=pa.string(), stage=pa.string(), reason=pa.string(), detail=pa.string())


def table_in_order(rows: Sequence[Mapping[str, Any]], kind: pa.Schema) -> pa.Table:
    """Return rows, which keep their order, as a table of schema `kind`; raises ManifestError for a wrong type."""
    try:
        return pa.Table.from_pylist(list(rows), schema=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError) as error:
        raise ManifestError(f"rows do not fit the schema {kind.names}: {error}") from None


def table_from_rows(
    rows: Sequence[Mapping[str, Any]], kind: pa.Schema, metadata: Mapping[str, Any] | None = None
) -> pa.Table:
    """Return rows as a table of schema `kind`, sorted by utterance id, with `metadata` (JSON) attached."""
    table = table_in_order(rows, kind)
    if table.num_rows:
        table = table.sort_by("utterance_id")
    return table.replace_schema_metadata(packed_facts(metadata or {}))


def packed_facts(facts: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Return facts about the whole as metadata of a manifest's schema."""
    return {METADATA_KEY: json.dumps(dict(facts), sort_keys=True, ensure_ascii=False).encode("utf-8")}


def write_manifest(path: Path, table: pa.Table) -> None:
    """Write a table to Parquet, atomically; the same table always gives the same bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=65536, write_statistics=True)


@dataclass(frozen=True)
class ManifestRows:
    """Rows of a manifest by utterance id, re-iterable in constant memory.

    A manifest in another order, which no stage writes, is sorted in memory.
    """

    path: Path
    kind: pa.Schema
    n_rows: int
    facts: dict[str, Any]
    table: pa.Table | None = None

    def read(self, *columns: str) -> Iterator[dict[str, Any]]:
        """Yield rows with the given columns (default: all); raises ManifestError for a missing value."""
        kind = pa.schema([self.kind.field(name) for name in columns or self.kind.names])
        for batch in self._batches(kind.names):
            check_values(batch, kind, where=str(self.path))
            yield from batch.to_pylist()

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        if self.table is not None:
            for start in range(0, self.n_rows, BATCH_ROWS):
                yield self.table.select(columns).slice(start, BATCH_ROWS)
            return
        with pq.ParquetFile(self.path, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                yield pa.Table.from_batches([batch])


def open_manifest(path: Path, kind: pa.Schema) -> ManifestRows:
    """Open a manifest for reading row by row; raises ManifestError with the file and the mismatch."""
    try:
        with pq.ParquetFile(path) as file:
            found, n_rows = file.schema_arrow, file.metadata.num_rows
    except FileNotFoundError:
        raise ManifestError(_MISSING.format(path=path)) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ManifestError(_UNREADABLE.format(path=path, why=str(error).splitlines()[0])) from None
    _check_columns(found, kind, where=str(path))
    packed = (found.metadata or {}).get(METADATA_KEY)
    rows = ManifestRows(path, kind, n_rows, json.loads(packed) if packed else {})
    ids = (row["utterance_id"] for row in rows.read("utterance_id"))
    if all(before < after for before, after in pairwise(ids)):
        return rows
    return replace(rows, table=read_manifest(path, kind).sort_by("utterance_id"))


def read_manifest(path: Path, kind: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read and validate a manifest as a table; raises ManifestError with the file and the mismatch."""
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=list(columns) if columns else None)
    except FileNotFoundError:
        raise ManifestError(_MISSING.format(path=path)) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ManifestError(_UNREADABLE.format(path=path, why=str(error).splitlines()[0])) from None
    validate(table, pa.schema([kind.field(name) for name in columns]) if columns else kind, where=str(path))
    return table


def validate(table: pa.Table, kind: pa.Schema, *, where: str) -> None:
    """Check column names, types, nulls, and the uniqueness of utterance ids; raises ManifestError."""
    _check_columns(table.schema, kind, where=where)
    check_values(table, kind, where=where)
    if "utterance_id" in kind.names:
        import pyarrow.compute as pc  # row stages, which check ids as they write, are spared the import

        ids = table.column("utterance_id")
        # A Python object for each of a million ids is slow.
        counts = ids.value_counts() if pc.count_distinct(ids).as_py() < table.num_rows else []
        repeated = [entry["values"].as_py() for entry in counts if entry["counts"].as_py() > 1]
        if repeated and "reason" not in kind.names:
            raise ManifestError(f"{where}: utterance {repeated[0]!r} appears more than once ({len(repeated)} such)")


def _check_columns(found: pa.Schema, kind: pa.Schema, *, where: str) -> None:
    missing, unexpected = set(kind.names) - set(found.names), set(found.names) - set(kind.names)
    if missing or unexpected:
        raise ManifestError(f"{where}: missing columns {sorted(missing)}, unexpected columns {sorted(unexpected)}")
    for field in kind:
        if not found.field(field.name).type.equals(field.type):
            raise ManifestError(
                f"{where}: column {field.name!r} should be {field.type}, is {found.field(field.name).type}"
            )


def check_values(table: pa.Table, kind: pa.Schema, *, where: str) -> None:
    """Raise ManifestError for a missing value in a column of the schema that may not have any."""
    for field in kind:
        column = table.column(field.name)
        if column.null_count and not field.nullable:
            row = column.is_null().to_pylist().index(True)
            raise ManifestError(f"{where}: column {field.name!r} is empty for utterance {_utterance(table, row)!r}")


def _utterance(table: pa.Table, row: int) -> str:
    return table.column("utterance_id")[row].as_py() if "utterance_id" in table.schema.names else f"row {row}"


def metadata_of(table: pa.Table) -> dict[str, Any]:
    """Return the facts a stage attached to its manifest (an empty dictionary if none)."""
    packed = (table.schema.metadata or {}).get(METADATA_KEY)
    return json.loads(packed) if packed else {}


def read_metadata(path: Path) -> dict[str, Any]:
    """Return a manifest's attached facts without reading its rows."""
    try:
        packed = (pq.read_schema(path).metadata or {}).get(METADATA_KEY)
    except FileNotFoundError:
        raise ManifestError(_MISSING.format(path=path)) from None
    return json.loads(packed) if packed else {}


def reject(utterance_id: str, stage: str, reason: str, detail: str) -> dict[str, str]:
    """Return one row of the rejects table."""
    return {"utterance_id": utterance_id, "stage": stage, "reason": reason, "detail": detail}
