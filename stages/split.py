"""Split stage: joins the manifests and assigns every utterance to train, validation or test.

An utterance's place depends on the rank of its text's hash among its speaker's texts, not on their order: adding data
moves few others, and every speaker with several texts of a fair length gets held-out ones. Utterances that say the same
words stay together, so that no held-out text was trained on.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common import manifests
from stages.common.errors import StageError
from stages.common.files import output_folder
from stages.common.stage import run_stage

logger = logging.getLogger(__name__)

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True)
class SplitParams:
    """Shares are of each speaker's utterances; held-out ones are chosen among lengths that are fair to judge."""

    salt: str
    validation_share: float
    test_share: float
    held_out_min_seconds: float
    held_out_max_seconds: float
    min_seconds: float
    max_seconds: float
    max_reject_share: float

    def __post_init__(self) -> None:
        if not (0 < self.validation_share < 1 and 0 < self.test_share < 1 and self.validation_share + self.test_share < 1):
            raise ValueError("validation_share and test_share must be above 0 and together below 1")
        if not self.min_seconds < self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds} must be less than max_seconds {self.max_seconds}")
        if not self.held_out_min_seconds < self.held_out_max_seconds:
            raise ValueError(f"held_out_min_seconds {self.held_out_min_seconds} must be less than "
                             f"held_out_max_seconds {self.held_out_max_seconds}")  # fmt: skip


def rank(text: str, salt: str) -> bytes:
    """Return the hash that orders utterances for being held out."""
    return hashlib.sha256(f"{salt}\0{text}".encode()).digest()


def assign_subsets(utterances: Sequence[Mapping[str, Any]], params: SplitParams) -> dict[str, str]:
    """Return utterance id → subset for rows with utterance_id, speaker, normalised and seconds.

    For each speaker the eligible texts with the smallest hashes are the test set, the next ones the validation set;
    texts count once, with all the utterances that say them.
    """
    subsets = {str(row["utterance_id"]): TRAIN for row in utterances}
    by_speaker: dict[str, list[Mapping[str, Any]]] = {}
    for row in utterances:
        by_speaker.setdefault(row["speaker"], []).append(row)
    texts_of: dict[str, set[str]] = {TEST: set(), VALIDATION: set()}
    for _, rows in sorted(by_speaker.items()):
        eligible = {row["normalised"].lower() for row in rows if params.held_out_min_seconds <= row["seconds"] <= params.held_out_max_seconds}
        ranked = sorted(eligible, key=lambda text: rank(text, params.salt))
        n_test = min(math.ceil(params.test_share * len(rows)), len(ranked) // 2)
        n_validation = min(math.ceil(params.validation_share * len(rows)), len(ranked) // 2)
        texts_of[TEST].update(ranked[:n_test])
        texts_of[VALIDATION].update(ranked[n_test : n_test + n_validation])
    for row in utterances:
        text = row["normalised"].lower()
        subsets[row["utterance_id"]] = TEST if text in texts_of[TEST] else VALIDATION if text in texts_of[VALIDATION] else TRAIN
    return subsets


def length_problem(n_frames: int, n_phones: int, seconds: float, params: SplitParams) -> tuple[str, str] | None:
    """Return (reason, detail) when an utterance is too long, too short, or has more phones than frames."""
    if seconds < params.min_seconds:
        return "too_short", f"{seconds:.2f} s, less than split.min_seconds = {params.min_seconds:g}"
    if seconds > params.max_seconds:
        return "too_long", f"{seconds:.2f} s, more than split.max_seconds = {params.max_seconds:g}"
    if n_frames < 2 * n_phones + 1:
        return "too_fast", f"{n_phones} phones in {n_frames} frames; the transcript may not belong to the recording"
    return None


def join(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return one merged dictionary per utterance present in every table, and rejects for the others.

    Columns keep their names under a prefix: ``bert.shard``. The corpus table decides what there is.
    """
    by_id = {name: {row["utterance_id"]: row for row in rows} for name, rows in tables.items()}
    merged, rejects = [], []
    for utterance_id in by_id["corpus"]:
        missing = [name for name, rows in by_id.items() if utterance_id not in rows]
        if missing:
            rejects.append(manifests.reject(utterance_id, "split", "rejected_before", f"by {', '.join(missing)}"))
            continue
        row: dict[str, Any] = {"utterance_id": utterance_id}
        for name, rows in by_id.items():
            row.update({f"{name}.{column}": value for column, value in rows[utterance_id].items()})
        merged.append(row)
    return merged, rejects


def process(
    merged: Sequence[Mapping[str, Any]], sample_rate_hz: int, params: SplitParams
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return split rows and rejects from joined rows."""
    usable, rejects = [], []
    for row in merged:
        seconds = row["resample.n_samples"] / sample_rate_hz
        problem = length_problem(row["spectrogram.n_frames"], len(row["clean_text.phones"]), seconds, params)
        if problem:
            rejects.append(manifests.reject(row["utterance_id"], "split", *problem))
        else:
            usable.append({**row, "seconds": seconds, "speaker": row["corpus.speaker"], "normalised": row["clean_text.normalised"]})
    subsets = assign_subsets(usable, params)
    return [_split_row(row, subsets[row["utterance_id"]]) for row in usable], rejects


def _split_row(row: Mapping[str, Any], subset: str) -> dict[str, Any]:
    return {
        "utterance_id": row["utterance_id"], "subset": subset, "speaker": row["speaker"], "language": row["clean_text.language"],
        "synthetic": row["corpus.synthetic"], "text": row["normalised"], "phones": row["clean_text.phones"], "tones": row["clean_text.tones"],
        "pcm_shard": row["resample.shard"], "pcm_offset_bytes": row["resample.offset_bytes"], "n_samples": row["resample.n_samples"],
        "spectrogram_shard": row["spectrogram.shard"], "spectrogram_offset_bytes": row["spectrogram.offset_bytes"],
        "n_frames": row["spectrogram.n_frames"], "bert_spans": row["bert.spans"], "phone_tokens": row["bert.phone_tokens"],
    }  # fmt: skip


def main(corpus: Path, resample: Path, clean_text: Path, spectrogram: Path, bert: Path, out: Path, params: SplitParams) -> None:
    """Join the stages' manifests and hold out validation and test utterances.

    Reads the five manifests; writes split.parquet and rejects.parquet (too long, too short, rejected by one stage).
    """
    kinds = {"corpus": manifests.CORPUS, "resample": manifests.RESAMPLE, "clean_text": manifests.CLEAN_TEXT,
             "spectrogram": manifests.SPECTROGRAM, "bert": manifests.BERT}  # fmt: skip
    folders = {"corpus": corpus, "resample": resample, "clean_text": clean_text, "spectrogram": spectrogram, "bert": bert}
    tables = {name: manifests.read_manifest(folders[name] / f"{name}.parquet", kind) for name, kind in kinds.items()}
    merged, rejects = join({name: table.to_pylist() for name, table in tables.items()})
    facts = {name: manifests.metadata_of(table) for name, table in tables.items()}
    rows, dropped = process(merged, facts["resample"]["sample_rate_hz"], params)
    counts = {subset: sum(row["subset"] == subset for row in rows) for subset in (TRAIN, VALIDATION, TEST)}
    with output_folder(out) as temporary:
        manifests.write_outcome(temporary, "split", manifests.table_from_rows(rows, manifests.SPLIT, facts), manifests.SPLIT,
                                rejects + dropped, n_input=tables["corpus"].num_rows, max_reject_share=params.max_reject_share)  # fmt: skip
        if not all(counts.values()):
            raise StageError(None, "split", f"{counts}: a subset is empty; use more data, a larger split.validation_share or "
                             "test_share, or a wider range of split.held_out_*_seconds")  # fmt: skip
    logger.info("split: %s", ", ".join(f"{count} {subset}" for subset, count in counts.items()))


if __name__ == "__main__":
    run_stage(main, SplitParams, "split")
