"""Split stage: held-out utterances of every speaker, chosen by hash, whose texts were not trained on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from stages.common import manifests
from stages.common.command import from_mapping
from stages.common.errors import PipelineError
from stages.split import stage as split
from stages.split.stage import JoinedRow, SplitParams, hold_out, join, length_problem, rank, usable
from tests.small_corpus import SPLIT_VALUES, SmallCorpus, folder_bytes, reasons, utterance_ids

PARAMS = SplitParams(**SPLIT_VALUES)


def speak(speaker: str, count: int, seconds: float = 2.0, prefix: str = "") -> list[dict[str, Any]]:
    return [
        {
            "utterance_id": f"{speaker}/{index}",
            "speaker": speaker,
            "normalised": f"{prefix or speaker} says {index}",
            "seconds": seconds,
        }
        for index in range(count)
    ]


def assign_subsets(rows: Sequence[dict[str, Any]], params: SplitParams) -> dict[str, str]:
    held_out = hold_out(rows, params)
    return {row["utterance_id"]: held_out.subset_of(row["normalised"]) for row in rows}


def counts(rows: Sequence[dict[str, Any]], subsets: dict[str, str], speaker: str) -> Counter[str]:
    return Counter(subsets[row["utterance_id"]] for row in rows if row["speaker"] == speaker)


def test_every_speaker_is_held_out_in_proportion() -> None:
    rows = speak("anna", 100) + speak("bob", 12) + speak("carl", 4)
    subsets = assign_subsets(rows, PARAMS)
    assert counts(rows, subsets, "anna") == {"train": 80, "validation": 10, "test": 10}
    assert counts(rows, subsets, "bob") == {"train": 8, "validation": 2, "test": 2}
    assert counts(rows, subsets, "carl") == {"train": 2, "validation": 1, "test": 1}


def test_the_order_of_utterances_changes_nothing() -> None:
    rows = speak("anna", 60) + speak("bob", 30)
    assert assign_subsets(random.Random(5).sample(rows, len(rows)), PARAMS) == assign_subsets(rows, PARAMS)


def test_other_speakers_change_nothing() -> None:
    anna = speak("anna", 60)
    together = assign_subsets(anna + speak("bob", 30), PARAMS)
    alone = assign_subsets(anna, PARAMS)
    assert {name: subset for name, subset in together.items() if name.startswith("anna")} == alone


def test_adding_an_utterance_moves_the_others_at_most_across_one_border() -> None:
    rows = speak("anna", 200)
    before = assign_subsets(rows[:-1], PARAMS)
    after = assign_subsets(rows, PARAMS)
    moved = [name for name in before if before[name] != after[name]]
    assert len(moved) <= 2
    ranked = sorted(rows, key=lambda row: rank(row["normalised"], PARAMS.salt))
    order = [("test", "validation", "train").index(after[row["utterance_id"]]) for row in ranked]
    assert order == sorted(order)


def test_another_salt_is_another_choice() -> None:
    rows = speak("anna", 200)
    other = SplitParams(**{**SPLIT_VALUES, "salt": "1"})
    assert assign_subsets(rows, PARAMS) != assign_subsets(rows, other)


def test_utterances_that_say_the_same_stay_together() -> None:
    rows = speak("anna", 40, prefix="we") + speak("bob", 40, prefix="we")
    for row in speak("carl", 40, prefix="WE"):
        rows.append({**row, "normalised": row["normalised"].upper()})
    subsets = assign_subsets(rows, PARAMS)
    by_text: dict[str, set[str]] = {}
    for row in rows:
        by_text.setdefault(row["normalised"].lower(), set()).add(subsets[row["utterance_id"]])
    assert all(len(found) == 1 for found in by_text.values())
    assert {next(iter(found)) for found in by_text.values()} == {"train", "validation", "test"}


def test_only_lengths_that_are_fair_to_judge_are_held_out() -> None:
    rows = speak("anna", 50, seconds=0.8) + [
        {**row, "utterance_id": row["utterance_id"] + "x", "normalised": f"other {index}", "seconds": 2.0}
        for index, row in enumerate(speak("anna", 50))
    ]
    subsets = assign_subsets(rows, PARAMS)
    assert {row["seconds"] for row in rows if subsets[row["utterance_id"]] != "train"} == {2.0}


@pytest.mark.parametrize(
    ("n_frames", "n_phones", "seconds", "reason"),
    [
        (100, 20, 1.6, None),
        (100, 20, 0.5, "too_short"),
        (600, 20, 9.0, "too_long"),
        (100, 50, 1.6, "too_fast"),
        (101, 50, 1.6, None),
    ],
)
def test_what_cannot_be_trained_on_has_a_reason(
    n_frames: int, n_phones: int, seconds: float, reason: str | None
) -> None:
    problem = length_problem(n_frames, n_phones, seconds, PARAMS)
    assert (problem[0] if problem else None) == reason


def joined(count: int, seconds: Sequence[float] = (), n_phones: int = 20) -> list[dict[str, Any]]:
    """Return rows as `join` gives them."""
    rows = []
    for index in range(count):
        n_samples = int(16000 * (seconds[index] if index < len(seconds) else 2.0))
        rows.append(
            {
                "utterance_id": f"anna/{index:03d}",
                "corpus.speaker": "anna",
                "corpus.synthetic": index % 2 == 1,
                "clean_text.language": "EN",
                "clean_text.normalised": f"text {index}",
                "clean_text.phones": ["ah"] * n_phones,
                "clean_text.tones": [0] * n_phones,
                "resample.shard": 0,
                "resample.offset_bytes": 0,
                "resample.n_samples": n_samples,
                "spectrogram.shard": 0,
                "spectrogram.offset_bytes": 0,
                "spectrogram.n_frames": n_samples // 256,
                "bert.spans": [
                    {
                        "language": "EN",
                        "n_phones": n_phones + 2,
                        "shard": 0,
                        "offset_bytes": 0,
                        "n_tokens": 3,
                        "n_channels": 4,
                    }
                ],
                "bert.phone_tokens": [0] * (n_phones + 2),
            }
        )
    return rows


def test_dropped_utterances_are_listed_and_the_rest_is_complete() -> None:
    rows = [JoinedRow(row["utterance_id"], row) for row in joined(30, seconds=[0.2, 9.5])]
    found = list(usable(rows, 16000, PARAMS))
    assert [one.utterance_id for one in found] == [one.utterance_id for one in rows]
    assert {one.utterance_id: one.rejected[0] for one in found if one.rejected} == {
        "anna/000": "too_short",
        "anna/001": "too_long",
    }
    assert "9.50 s, more than split.max_seconds = 8" in str(found[1].rejected)
    assert [one.row["seconds"] for one in found[2:]] == [2.0] * 28 and found[2].row["normalised"] == "text 2"


def test_an_utterance_that_one_stage_rejected_is_listed_with_that_stage() -> None:
    tables = {
        "corpus": [{"utterance_id": name} for name in "abcd"],
        "resample": [
            {"utterance_id": "a", "shard": 7},
            {"utterance_id": "b", "shard": 8},
            {"utterance_id": "d", "shard": 9},
        ],
        "bert": [{"utterance_id": "a"}, {"utterance_id": "bb"}, {"utterance_id": "d"}],
    }
    a, b, c, d = join({name: iter(rows) for name, rows in tables.items()})
    assert a.row == {
        "corpus.utterance_id": "a",
        "resample.utterance_id": "a",
        "resample.shard": 7,
        "bert.utterance_id": "a",
    }
    assert (b.rejected, c.rejected) == (("rejected_before", "by bert"), ("rejected_before", "by resample, bert"))
    assert d.row["resample.shard"] == 9


def run(corpus: SmallCorpus, out: str = "out", **changes: Any) -> None:
    params = SplitParams(**{**SPLIT_VALUES, **changes})
    split.main(corpus.corpus, corpus.resample, corpus.clean_text, corpus.spectrogram, corpus.bert, Path(out), params)


@pytest.mark.usefixtures("workspace")
def test_the_manifest_joins_what_training_needs(small_corpus: SmallCorpus) -> None:
    run(small_corpus)
    assert folder_bytes(Path("out")) == folder_bytes(small_corpus.split)
    table = manifests.read_manifest(Path("out/split.parquet"), manifests.SPLIT)
    assert Counter(table.column("subset").to_pylist()) == {"train": 8, "validation": 2, "test": 2}
    facts = manifests.metadata_of(table)
    assert facts["resample"] == {"sample_rate_hz": 16000} and facts["bert"]["encoders"]["EN"]["kind"] == "package"
    for row in table.to_pylist():
        assert len(row["phone_tokens"]) == len(row["phones"]) + 2 == len(row["tones"]) + 2


@pytest.mark.usefixtures("workspace")
def test_what_is_too_long_is_in_the_rejects(small_corpus: SmallCorpus) -> None:
    lengths = (
        pq.read_table(small_corpus.resample / "resample.parquet").select(["utterance_id", "n_samples"]).to_pylist()
    )
    limit = sorted(row["n_samples"] for row in lengths)[-2] / 16000
    run(small_corpus, max_seconds=limit)
    longest = max(lengths, key=lambda row: row["n_samples"])["utterance_id"]
    assert reasons(Path("out")) == {longest: "too_long"}
    assert sorted([longest, *utterance_ids(Path("out/split.parquet"))]) == utterance_ids(
        small_corpus.corpus / "corpus.parquet"
    )


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_seconds": 7.0}, r"split: 12 of 12 utterances rejected \(too_short 12\)"),
        ({"held_out_min_seconds": 7.0}, "a subset is empty; use more data"),
    ],
)
def test_a_split_that_cannot_be_trained_on_is_an_error_without_output(
    small_corpus: SmallCorpus, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        run(small_corpus, **changes)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"validation_share": 0.0},
        {"validation_share": 0.6, "test_share": 0.5},
        {"min_seconds": 9.0},
        {"held_out_min_seconds": 9.0},
        {"salt": 0},
    ],
)
def test_values_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=r"^split: "):
        from_mapping(SplitParams, {**SPLIT_VALUES, **changes}, where="split")
