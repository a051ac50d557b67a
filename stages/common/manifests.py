"""Parquet manifests: declared schemas, validated at every stage border, with facts about the whole in the metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from stages.common.errors import ManifestError
from stages.common.files import atomic_path, work_root

METADATA_KEY = b"voice"
OVER_LIMIT = "over_limit"  # left out by a limit the user set: listed with the rejects, but nothing is wrong with it


def schema(**columns: pa.DataType) -> pa.Schema:
    """Return a schema of non-nullable columns."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


CORPUS = schema(
    utterance_id=pa.string(), speaker=pa.string(), language=pa.string(), text=pa.string(), audio_path=pa.string(),
    audio_sha256=pa.string(), container=pa.string(), sample_rate_hz=pa.int32(), n_channels=pa.int16(),
    n_samples=pa.int64(), synthetic=pa.bool_(),
)  # fmt: skip
RESAMPLE = schema(
    utterance_id=pa.string(), shard=pa.int32(), offset_bytes=pa.int64(), n_samples=pa.int64(), pcm_sha256=pa.string(),
    peak=pa.float32(), rms=pa.float32(),
)  # fmt: skip
CLEAN_TEXT = schema(
    utterance_id=pa.string(), language=pa.string(), normalised=pa.string(), words=pa.list_(pa.string()),
    word_starts=pa.list_(pa.int32()), word_ends=pa.list_(pa.int32()), word_languages=pa.list_(pa.string()),
    phones=pa.list_(pa.string()), tones=pa.list_(pa.int16()), word2ph=pa.list_(pa.int16()), note=pa.string(),
)  # fmt: skip
SPECTROGRAM = schema(
    utterance_id=pa.string(), shard=pa.int32(), offset_bytes=pa.int64(), n_frames=pa.int32(),
)  # fmt: skip
# A span's phones count the pads that belong to it; a span without features has no tokens.
BERT_SPAN = pa.struct([
    pa.field(name, kind, nullable=False) for name, kind in {
        "language": pa.string(), "n_phones": pa.int32(), "shard": pa.int32(), "offset_bytes": pa.int64(), "n_tokens": pa.int32(),
        "n_channels": pa.int32(),
    }.items()
])  # fmt: skip
# phone_tokens: for each phone with both pads, span after span, the token of its span that it takes.
BERT = schema(utterance_id=pa.string(), spans=pa.list_(BERT_SPAN), phone_tokens=pa.list_(pa.int16()))
SPLIT = schema(
    utterance_id=pa.string(), subset=pa.string(), speaker=pa.string(), language=pa.string(), synthetic=pa.bool_(),
    text=pa.string(), phones=pa.list_(pa.string()), tones=pa.list_(pa.int16()), pcm_shard=pa.int32(), pcm_offset_bytes=pa.int64(),
    n_samples=pa.int64(), spectrogram_shard=pa.int32(), spectrogram_offset_bytes=pa.int64(), n_frames=pa.int32(),
    bert_spans=pa.list_(BERT_SPAN), phone_tokens=pa.list_(pa.int16()),
)  # fmt: skip
REJECTS = schema(utterance_id=pa.string(), stage=pa.string(), reason=pa.string(), detail=pa.string())


def table_from_rows(rows: Sequence[Mapping[str, Any]], kind: pa.Schema, metadata: Mapping[str, Any] | None = None) -> pa.Table:
    """Return rows as a table of schema `kind`, sorted by utterance id, with `metadata` (JSON) attached."""
    try:
        table = pa.Table.from_pylist(list(rows), schema=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError) as error:
        raise ManifestError(f"rows do not fit the schema {kind.names}: {error}") from None
    if table.num_rows:
        table = table.sort_by("utterance_id")
    packed = json.dumps(dict(metadata or {}), sort_keys=True, ensure_ascii=False).encode("utf-8")
    return table.replace_schema_metadata({METADATA_KEY: packed})


def write_manifest(path: Path, table: pa.Table) -> None:
    """Write a table to Parquet, atomically; the same table always gives the same bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=65536, write_statistics=True)


def read_manifest(path: Path, kind: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read and validate a manifest; raises ManifestError with the file, the expected and the found."""
    try:
        table = pq.read_table(path, columns=list(columns) if columns else None)
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such manifest; run `dvc repro`, which makes it first") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ManifestError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}); delete it and run `dvc repro`") from None
    validate(table, pa.schema([kind.field(name) for name in columns]) if columns else kind, where=str(path))
    return table


def validate(table: pa.Table, kind: pa.Schema, *, where: str) -> None:
    """Check column names, types, nulls and the uniqueness of utterance ids; raises ManifestError."""
    expected, found = set(kind.names), set(table.schema.names)
    if expected != found:
        raise ManifestError(f"{where}: missing columns {sorted(expected - found)}, unexpected columns {sorted(found - expected)}")
    for field in kind:
        if not table.schema.field(field.name).type.equals(field.type):
            raise ManifestError(f"{where}: column {field.name!r} should be {field.type}, is {table.schema.field(field.name).type}")
        column = table.column(field.name)
        if column.null_count:
            row = pc.index(pc.is_null(column), True).as_py()
            raise ManifestError(f"{where}: column {field.name!r} is empty for utterance {_utterance(table, row)!r}")
    if "utterance_id" in kind.names:
        counts = table.column("utterance_id").value_counts() if table.num_rows else []
        repeated = [entry["values"].as_py() for entry in counts if entry["counts"].as_py() > 1]
        if repeated and "reason" not in kind.names:
            raise ManifestError(f"{where}: utterance {repeated[0]!r} appears more than once ({len(repeated)} such)")


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
        raise ManifestError(f"{path}: no such manifest; run `dvc repro`, which makes it first") from None
    return json.loads(packed) if packed else {}


def reject(utterance_id: str, stage: str, reason: str, detail: str) -> dict[str, str]:
    """Return one row of the rejects table."""
    return {"utterance_id": utterance_id, "stage": stage, "reason": reason, "detail": detail}


def write_outcome(
    folder: Path, stage: str, kept: pa.Table, kind: pa.Schema, rejected: Iterable[Mapping[str, str]], *,
    n_input: int, max_reject_share: float,
) -> None:  # fmt: skip
    """Write a stage's manifest and its rejects.parquet; every input row must be in one of the two.

    Raises ManifestError when rows went missing, PipelineError (through ManifestError) when more than
    `max_reject_share` of the input was rejected or nothing is left: the reasons are counted in the message.
    """
    validate(kept, kind, where=f"{stage}.parquet")
    rejects = table_from_rows(list(rejected), REJECTS)
    if kept.num_rows + rejects.num_rows != n_input:
        raise ManifestError(f"{stage}: {n_input} utterances came in, {kept.num_rows} kept + {rejects.num_rows} rejected went out")
    write_manifest(folder / f"{stage}.parquet", kept)
    write_manifest(folder / "rejects.parquet", rejects)
    n_wrong = sum(reason != OVER_LIMIT for reason in rejects.column("reason").to_pylist())
    if kept.num_rows == 0 or n_wrong > max_reject_share * (kept.num_rows + n_wrong):
        # The stage's folder goes away with the failure; the reasons must not.
        listing = work_root() / "rejects" / f"{stage}.csv"
        with atomic_path(listing) as temporary:
            pacsv.write_csv(rejects, temporary)
        raise ManifestError(f"{_too_many(stage, rejects, n_input, max_reject_share)}; all of them: {listing}")


def _too_many(stage: str, rejects: pa.Table, n_input: int, max_reject_share: float) -> str:
    if n_input == 0:
        return f"{stage}: no utterances came in; look at the rejects of the stage before it"
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for row in rejects.to_pylist():
        if row["reason"] == OVER_LIMIT:
            continue
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
        examples.setdefault(row["reason"], f"{row['utterance_id']}: {row['detail']}")
    n_wrong = sum(counts.values())
    n_input -= rejects.num_rows - n_wrong
    if not counts:
        return f"{stage}: nothing is left; the limit leaves out every utterance"
    worst = max(counts, key=lambda reason: counts[reason])
    listed = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]))
    return (
        f"{stage}: {n_wrong} of {n_input} utterances rejected ({listed}), more than "
        f"{stage}.max_reject_share = {max_reject_share:g} allows; first {worst}: {examples[worst]}"
    )
