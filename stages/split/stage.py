"""Split stage: joins the manifests and assigns every utterance to train, validation or test.

An utterance's subset depends on the rank of its text's hash among its speaker's texts: adding data moves few others,
and every speaker with several texts of eligible length has held-out ones. Utterances with the same text stay in one
subset, so no held-out text is trained on.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval

from model.settings import Settings, Share
from stages.common import manifests
from stages.common.errors import StageError
from stages.common.files import output_folder
from stages.rows.outcomes import outcome_writer

logger = logging.getLogger(__name__)

TRAIN, VALIDATION, TEST = "train", "validation", "test"
RANK_BYTES = 16
COLUMNS = {
    "corpus": ("speaker", "synthetic"),
    "resample": ("shard", "offset_bytes", "n_samples"),
    "clean_text": ("language", "normalised", "phones", "tones"),
    "spectrogram": ("shard", "offset_bytes", "n_frames"),
    "bert": ("spans", "phone_tokens"),
}


HeldOutShare = Annotated[float, Interval(gt=0, lt=1)]


@dataclass(frozen=True)
class SplitParams(Settings):
    """Shares refer to each speaker's utterances; held-out ones are chosen within a range of durations."""

    salt: str
    validation_share: HeldOutShare
    test_share: HeldOutShare
    held_out_min_seconds: float
    held_out_max_seconds: float
    min_seconds: float
    max_seconds: float
    max_reject_share: Share

    def _conflicts(self) -> Iterator[str]:
        if not self.validation_share + self.test_share < 1:
            yield (
                f"validation_share {self.validation_share} and test_share {self.test_share} must be together below 1"
            )
        if not self.min_seconds < self.max_seconds:
            yield f"min_seconds {self.min_seconds} must be less than max_seconds {self.max_seconds}"
        if not self.held_out_min_seconds < self.held_out_max_seconds:
            yield (
                f"held_out_min_seconds {self.held_out_min_seconds} must be less than "
                f"held_out_max_seconds {self.held_out_max_seconds}"
            )


def rank(text: str, salt: str) -> bytes:
    """Return the hash by which texts are ranked for the held-out subsets; it ignores case."""
    return hashlib.sha256(f"{salt}\0{text.lower()}".encode()).digest()[:RANK_BYTES]


@dataclass(frozen=True)
class HeldOut:
    """Hashes of the held-out texts."""

    test: frozenset[bytes]
    validation: frozenset[bytes]
    salt: str

    def subset_of(self, normalised: str) -> str:
        """Return the subset of the utterances with this text."""
        hashed = rank(normalised, self.salt)
        return TEST if hashed in self.test else VALIDATION if hashed in self.validation else TRAIN


def hold_out(utterances: Iterable[Mapping[str, Any]], params: SplitParams) -> HeldOut:
    """Return the held-out texts of rows with speaker, normalised and seconds.

    For each speaker the eligible texts with the smallest hashes are the test set, the next ones the validation set;
    a text counts once, with all its utterances.
    """
    n_utterances: Counter[str] = Counter()
    eligible: dict[str, bytearray] = {}
    for row in utterances:
        n_utterances[row["speaker"]] += 1
        if params.held_out_min_seconds <= row["seconds"] <= params.held_out_max_seconds:
            eligible.setdefault(row["speaker"], bytearray()).extend(rank(row["normalised"], params.salt))
    test: set[bytes] = set()
    validation: set[bytes] = set()
    for speaker, hashes in eligible.items():
        ranked = np.unique(np.array(hashes, dtype=np.uint8).reshape(-1, RANK_BYTES), axis=0)
        n_test = min(math.ceil(params.test_share * n_utterances[speaker]), len(ranked) // 2)
        n_validation = min(math.ceil(params.validation_share * n_utterances[speaker]), len(ranked) // 2)
        test.update(row.tobytes() for row in ranked[:n_test])
        validation.update(row.tobytes() for row in ranked[n_test : n_test + n_validation])
    return HeldOut(frozenset(test), frozenset(validation), params.salt)


def length_problem(n_frames: int, n_phones: int, seconds: float, params: SplitParams) -> tuple[str, str] | None:
    """Return (reason, detail) when an utterance is too long, too short, or has more phones than frames."""
    if seconds < params.min_seconds:
        return "too_short", f"{seconds:.2f} s, less than split.min_seconds = {params.min_seconds:g}"
    if seconds > params.max_seconds:
        return "too_long", f"{seconds:.2f} s, more than split.max_seconds = {params.max_seconds:g}"
    if n_frames < 2 * n_phones + 1:
        return "too_fast", f"{n_phones} phones in {n_frames} frames; the transcript may not belong to the recording"
    return None


@dataclass(frozen=True)
class JoinedRow:
    """Utterance of the corpus: its columns of every manifest with the stage as prefix (``bert.spans``), or its
    rejection.
    """

    utterance_id: str
    row: dict[str, Any]
    rejected: tuple[str, str] | None = None


def join(tables: Mapping[str, Iterator[Mapping[str, Any]]]) -> Iterator[JoinedRow]:
    """Left-join tables, all in the order of utterance ids, on the utterance id of the first."""
    (first, main_rows), *others = tables.items()
    heads = {name: next(rows, None) for name, rows in others}
    for main_row in main_rows:
        utterance_id = main_row["utterance_id"]
        matched, missing = {first: main_row}, []
        for name, rows in others:
            head = heads[name]
            while head is not None and head["utterance_id"] < utterance_id:
                head = next(rows, None)
            heads[name] = head
            if head is None or head["utterance_id"] != utterance_id:
                missing.append(name)
            else:
                matched[name] = head
        if missing:
            yield JoinedRow(utterance_id, {}, ("rejected_before", f"by {', '.join(missing)}"))
        else:
            yield JoinedRow(
                utterance_id,
                {f"{name}.{column}": value for name, row in matched.items() for column, value in row.items()},
            )


def usable(joined: Iterable[JoinedRow], sample_rate_hz: int, params: SplitParams) -> Iterator[JoinedRow]:
    """Yield joined rows with seconds, speaker and normalised; rows that cannot be trained on become rejects."""
    for utterance in joined:
        row = utterance.row
        if utterance.rejected:
            yield utterance
            continue
        seconds = row["resample.n_samples"] / sample_rate_hz
        problem = length_problem(row["spectrogram.n_frames"], len(row["clean_text.phones"]), seconds, params)
        if problem:
            yield JoinedRow(utterance.utterance_id, {}, problem)
        else:
            extra = {"seconds": seconds, "speaker": row["corpus.speaker"], "normalised": row["clean_text.normalised"]}
            yield JoinedRow(utterance.utterance_id, {**row, "utterance_id": utterance.utterance_id, **extra})


def _split_row(row: Mapping[str, Any], subset: str) -> dict[str, Any]:
    return {
        "utterance_id": row["utterance_id"],
        "subset": subset,
        "speaker": row["speaker"],
        "language": row["clean_text.language"],
        "synthetic": row["corpus.synthetic"],
        "text": row["normalised"],
        "phones": row["clean_text.phones"],
        "tones": row["clean_text.tones"],
        "pcm_shard": row["resample.shard"],
        "pcm_offset_bytes": row["resample.offset_bytes"],
        "n_samples": row["resample.n_samples"],
        "spectrogram_shard": row["spectrogram.shard"],
        "spectrogram_offset_bytes": row["spectrogram.offset_bytes"],
        "n_frames": row["spectrogram.n_frames"],
        "bert_spans": row["bert.spans"],
        "phone_tokens": row["bert.phone_tokens"],
    }


def main(
    corpus: Path, resample: Path, clean_text: Path, spectrogram: Path, bert: Path, out: Path, params: SplitParams
) -> None:
    """Join the stages' manifests and hold out validation and test utterances.

    Reads the five manifests; writes split.parquet and rejects.parquet (too long, too short, rejected by one stage).
    """
    folders = {
        "corpus": corpus,
        "resample": resample,
        "clean_text": clean_text,
        "spectrogram": spectrogram,
        "bert": bert,
    }
    tables = {
        name: manifests.open_manifest(folder / f"{name}.parquet", getattr(manifests, name.upper()))
        for name, folder in folders.items()
    }
    facts = {name: table.facts for name, table in tables.items()}

    def rows() -> Iterator[JoinedRow]:
        columns = {name: table.read("utterance_id", *COLUMNS[name]) for name, table in tables.items()}
        return usable(join(columns), facts["resample"]["sample_rate_hz"], params)

    held_out = hold_out((utterance.row for utterance in rows() if not utterance.rejected), params)
    counts = dict.fromkeys((TRAIN, VALIDATION, TEST), 0)
    with output_folder(out) as temporary:
        n_input = tables["corpus"].n_rows
        with outcome_writer(
            temporary, "split", manifests.SPLIT, facts, n_input=n_input, max_reject_share=params.max_reject_share
        ) as writer:
            for utterance in rows():
                if utterance.rejected:
                    writer.reject(utterance.utterance_id, *utterance.rejected)
                    continue
                subset = held_out.subset_of(utterance.row["normalised"])
                counts[subset] += 1
                writer.keep(_split_row(utterance.row, subset))
        if not all(counts.values()):
            raise StageError(
                None,
                "split",
                f"{counts}: a subset is empty; use more data, a larger split.validation_share or "
                "test_share, or a wider range of split.held_out_*_seconds",
            )
    logger.info("split: %s", ", ".join(f"{count} {subset}" for subset, count in counts.items()))
