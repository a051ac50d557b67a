"""Listeners' ratings: preferences and opinion scores with intervals, and files that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.compare.ratings import Rating, rating_results, read_ratings
from stages.common.errors import PipelineError

NAMES = ["old", "new"]


def write(path: Path, rater: str = "eva", **content: Any) -> Path:
    path.write_text(
        json.dumps({"kind": "voice-factory-ratings", "version": 1, "rater": rater, **content}), encoding="utf-8"
    )
    return path


def choice(a: str, b: str, preferred: str, utterance_id: str = "u/1") -> dict[str, str]:
    return {"utterance_id": utterance_id, "a": a, "b": b, "preferred": preferred}


def test_a_preference_counts_for_the_experiment_whichever_side_it_was_on(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.json",
        ab=[
            choice("old", "new", "b", "u/1"),
            choice("new", "old", "a", "u/2"),
            choice("old", "new", "a", "u/3"),
            choice("old", "new", "none", "u/4"),
            choice("new", "recording", "b", "u/4"),
        ],
    )
    with_recording, pair = sorted(
        rating_results(read_ratings([path], NAMES), NAMES), key=lambda result: result.n_ratings
    )
    assert (pair.experiments, pair.interval.value, pair.n_ratings, pair.n_raters, pair.interval.n_utterances) == (
        ("old", "new"),
        0.625,
        4,
        1,
        4,
    )
    assert 0 <= pair.interval.low < 0.625 < pair.interval.high <= 1
    assert with_recording.experiments == ("recording", "new") and with_recording.interval.value == 0.0


def test_opinion_scores_are_means_over_all_raters(tmp_path: Path) -> None:
    paths = [
        write(
            tmp_path / f"{rater}.json",
            rater,
            mos=[
                {"utterance_id": f"u/{number}", "experiment": "new", "score": score}
                for number, score in enumerate(scores)
            ],
        )
        for rater, scores in (("eva", [4, 5, 3]), ("max", [2, 3, 1]))
    ]
    (result,) = rating_results(read_ratings(paths, NAMES), NAMES)
    assert (result.experiments, result.interval.value, result.n_raters) == (("new",), 3.0, 2)
    assert result.interval.low <= 2.0 and result.interval.high >= 4.0, (
        "two raters that differ by two points: either may be drawn twice"
    )


def test_raters_who_disagree_widen_the_interval_more_than_their_number_of_answers_narrows_it() -> None:
    agreeing = [Rating(rater, f"u/{number}", ("new",), 3.0 + (number % 2)) for rater in "abcd" for number in range(50)]
    disagreeing = [
        Rating(rater, f"u/{number}", ("new",), 2.0 if rater in "ab" else 5.0)
        for rater in "abcd"
        for number in range(50)
    ]
    widths = [
        result.interval.high - result.interval.low
        for ratings in (agreeing, disagreeing)
        for result in rating_results(ratings, NAMES)
    ]
    assert widths[0] < 0.4 and widths[1] > 2


def test_answers_that_are_all_alike_have_no_spread() -> None:
    (result,) = rating_results([Rating("eva", f"u/{number}", ("old", "new"), 1.0) for number in range(5)], NAMES)
    assert (result.interval.value, result.interval.low, result.interval.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as ratings"),
        ("[]", "has invalid ratings"),
        (
            json.dumps({"kind": "photos", "version": 1}),
            "kind and version are 'photos' and 1, expected 'voice-factory-ratings' and 1",
        ),
        (json.dumps({"kind": "voice-factory-ratings", "version": 2, "rater": "eva"}), "and 2, expected"),
        (json.dumps({"kind": "voice-factory-ratings", "version": 1}), "'rater' is missing"),
    ],
)
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match="docs/evaluation.md has the format") as caught:
        read_ratings([path], NAMES)
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"ab": [choice("old", "newer", "a")]}, "'newer' is not one of the compared experiments (recording, old, new)"),
        ({"ab": [choice("old", "new", "both")]}, "preferred is one of a, b, none"),
        ({"ab": [choice("new", "new", "a")]}, "does not choose between two experiments"),
        (
            {"mos": [{"utterance_id": "u/1", "experiment": "new", "score": 6}]},
            "the score 6 of 'u/1' is not between 1 and 5",
        ),
        ({"mos": [{"utterance_id": "u/1", "experiment": "new", "score": None}]}, "has invalid ratings"),
        ({"mos": 3}, "has invalid ratings"),
    ],
)
def test_an_answer_that_cannot_be_is_one_line(tmp_path: Path, answers: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        read_ratings([write(tmp_path / "r.json", **answers)], NAMES)
    assert message in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="nowhere.json cannot be read as ratings"):
        read_ratings([tmp_path / "nowhere.json"], NAMES)
