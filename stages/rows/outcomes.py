"""A stage's manifest and rejects.parquet, written row by row; every input row is in one of the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.printable import csv_cell
from stages.common import manifests
from stages.common.errors import ManifestError
from stages.common.files import atomic_path, work_root

BATCH_ROWS = 512  # Python objects at a time
ROW_GROUP_ROWS = 4096


class _Table:
    """Parquet file written row by row in the order of utterance ids; the same rows always give the same bytes."""

    def __init__(self, path: Path, kind: pa.Schema, facts: Mapping[str, Any], where: str, *, once: bool) -> None:
        self.n_rows = 0
        self._kind = kind.with_metadata(manifests.packed_facts(facts))
        self._where = where
        self._once = once
        self._last = ""
        self._buffer: list[Mapping[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._writer = pq.ParquetWriter(path, self._kind, compression="zstd", write_statistics=True)

    def add(self, row: Mapping[str, Any]) -> None:
        utterance_id = row["utterance_id"]
        if self.n_rows and (utterance_id < self._last or (self._once and utterance_id == self._last)):
            wrong = "appears more than once" if utterance_id == self._last else f"comes after {self._last!r}"
            raise ManifestError(f"{self._where}: utterance {utterance_id!r} {wrong}")
        self._last = utterance_id
        self._buffer.append(row)
        self.n_rows += 1
        if len(self._buffer) == BATCH_ROWS:
            self._convert()
        if self.n_rows % ROW_GROUP_ROWS == 0:
            self._flush()

    def _convert(self) -> None:
        table = manifests.table_in_order(self._buffer, self._kind)
        manifests.check_values(table, self._kind, where=self._where)
        self._tables.append(table)
        self._buffer.clear()

    def _flush(self) -> None:
        self._writer.write_table(pa.concat_tables(self._tables).combine_chunks(), row_group_size=ROW_GROUP_ROWS)
        self._tables.clear()

    def close(self) -> None:
        if self._buffer or not self.n_rows:
            self._convert()
        if self._tables:
            self._flush()
        self._writer.close()


class OutcomeWriter:
    """Writer of a stage's kept and rejected rows, each in the order of utterance ids; see `outcome_writer`."""

    def __init__(self, stage: str, kept: _Table, rejects: _Table) -> None:
        self._stage = stage
        self._kept = kept
        self._rejects = rejects
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def keep(self, row: Mapping[str, Any]) -> None:
        """Add a row to the manifest; raises ManifestError for an id that is out of order or repeated."""
        self._kept.add(row)

    def reject(self, utterance_id: str, reason: str, detail: str) -> None:
        """Add a row to the rejects; an utterance may have several rejects."""
        self._rejects.add(manifests.reject(utterance_id, self._stage, reason, detail))
        self._reasons[reason] += 1
        self._examples.setdefault(reason, f"{utterance_id}: {detail}")

    def _check_count(self, n_input: int) -> None:
        n_kept, n_rejected = self._kept.n_rows, self._rejects.n_rows
        if n_kept + n_rejected != n_input:
            raise ManifestError(
                f"{self._stage}: {n_input} utterances came in, {n_kept} kept + {n_rejected} rejected went out"
            )

    def _too_many(self, n_input: int, max_reject_share: float) -> str | None:
        """Return the error message if too many rows were rejected, else None."""
        reasons = Counter({reason: count for reason, count in self._reasons.items() if reason != manifests.OVER_LIMIT})
        n_wrong = reasons.total()
        n_judged = n_input - self._reasons[manifests.OVER_LIMIT]
        if self._kept.n_rows and n_wrong <= max_reject_share * n_judged:
            return None
        if n_input == 0:
            return f"{self._stage}: no utterances came in; see the rejects of the previous stage"
        if not reasons:
            return f"{self._stage}: no utterance is left; the limit excludes all of them"
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        worst = reasons.most_common(1)[0][0]
        return (
            f"{self._stage}: {n_wrong} of {n_judged} utterances rejected ({listed}), more than "
            f"{self._stage}.max_reject_share = {max_reject_share:g} allows; first {worst}: {self._examples[worst]}"
        )


@contextmanager
def outcome_writer(
    folder: Path, stage: str, kind: pa.Schema, facts: Mapping[str, Any], *, n_input: int, max_reject_share: float
) -> Iterator[OutcomeWriter]:
    """Write STAGE.parquet (of schema `kind`, with `facts` about the whole) and rejects.parquet into `folder`.

    Raises ManifestError when not all of `n_input` rows were kept or rejected, and when more than `max_reject_share` of
    them were rejected or none is left: the message counts the reasons, and the rejects are listed outside the folder.
    """
    manifest, listing = folder / f"{stage}.parquet", folder / "rejects.parquet"
    with atomic_path(manifest) as manifest_path, atomic_path(listing) as rejects_path:
        kept = _Table(manifest_path, kind, facts, manifest.name, once=True)
        rejects = _Table(rejects_path, manifests.REJECTS, {}, listing.name, once=False)
        writer = OutcomeWriter(stage, kept, rejects)
        yield writer
        kept.close()
        rejects.close()
        writer._check_count(n_input)
    if message := writer._too_many(n_input, max_reject_share):
        # The stage's folder is removed after the failure; the rejects must stay.
        copy = work_root() / "rejects" / f"{stage}.csv"
        import pyarrow.csv as pacsv  # only a failure needs it

        rejected = pq.read_table(listing)
        cells = [[csv_cell(cell) for cell in column.to_pylist()] for column in rejected.columns]
        with atomic_path(copy) as temporary:
            pacsv.write_csv(pa.table(cells, schema=rejected.schema), temporary)
        raise ManifestError(f"{message}; all of them: {copy}")
