"""Listeners' ratings from JSON files: preferences between two experiments and opinion scores, with intervals.

The bootstrap resamples raters and utterances independently, since ratings of one person and ratings of one sentence are
correlated (Owen 2007, "The pigeonhole bootstrap").
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.common.errors import PipelineError
from stages.metrics.bootstrap import LEVEL, N_RESAMPLES, SEED, Interval

KIND, VERSION = "voice-factory-ratings", 1
RECORDING = "recording"
CHOICES = {"a": 0.0, "b": 1.0, "none": 0.5}
CHUNK = 1_000


@dataclass(frozen=True)
class Rating:
    """One answer: the score (1 to 5) of one experiment, or the preference (0 to 1) for the second of two."""

    rater: str
    utterance_id: str
    experiments: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class RatingResult:
    """The mean of the ratings of one experiment or pair, with its 95 % interval."""

    experiments: tuple[str, ...]
    interval: Interval  # its n_utterances are the rated ones
    n_ratings: int
    n_raters: int


def read_ratings(paths: Sequence[Path], names: Sequence[str]) -> list[Rating]:
    """Return the ratings of files; `names` are the experiments, whose order gives the order of pairs.

    Raises PipelineError for a file that cannot be read, another format or an experiment that is not compared.
    """
    known = [RECORDING, *names]
    ratings = []
    for path in paths:
        try:
            ratings += _ratings(json.loads(path.read_text(encoding="utf-8")), known)
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise PipelineError(
                f"compare: {path} cannot be read as ratings ({error}); docs/evaluation.md has the format"
            ) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            detail = f"{error} is missing" if isinstance(error, KeyError) else error
            raise PipelineError(
                f"compare: {path} has invalid ratings: {detail}; docs/evaluation.md has the format"
            ) from None
    return ratings


def _ratings(content: Mapping[str, Any], known: Sequence[str]) -> list[Rating]:
    if content.get("kind") != KIND or content.get("version") != VERSION:
        raise ValueError(
            f"kind and version are {content.get('kind')!r} and {content.get('version')!r}, "
            f"expected {KIND!r} and {VERSION}"
        )
    rater = str(content["rater"])
    ratings = []
    for answer in content.get("ab", []):
        order = [_place(answer[side], known) for side in ("a", "b")]
        if answer["preferred"] not in CHOICES or order[0] == order[1]:
            raise ValueError(
                f"{answer} does not choose between two experiments; preferred is one of {', '.join(CHOICES)}"
            )
        value = CHOICES[answer["preferred"]]
        pair = (known[min(order)], known[max(order)])
        ratings.append(Rating(rater, str(answer["utterance_id"]), pair, value if order[0] < order[1] else 1 - value))
    for answer in content.get("mos", []):
        score = float(answer["score"])
        if not 1 <= score <= 5:
            raise ValueError(f"the score {score:g} of {answer['utterance_id']!r} is not between 1 and 5")
        ratings.append(Rating(rater, str(answer["utterance_id"]), (known[_place(answer["experiment"], known)],), score))
    return ratings


def _place(name: str, known: Sequence[str]) -> int:
    if name not in known:
        raise ValueError(f"{name!r} is not one of the compared experiments ({', '.join(known)})")
    return known.index(name)


def rating_results(ratings: Sequence[Rating], names: Sequence[str]) -> list[RatingResult]:
    """Return the result of every rated experiment and pair: opinion scores, then preferences, in the order of names."""
    if not ratings:
        return []
    order = [RECORDING, *names]
    table = pd.DataFrame(list(ratings))
    results = [_result(answers) for _, answers in table.groupby("experiments", sort=False)]
    return sorted(results, key=lambda result: (len(result.experiments), list(map(order.index, result.experiments))))


def _result(answers: pd.DataFrame) -> RatingResult:
    values = answers["value"].to_numpy()
    raters, rater_of = np.unique(answers["rater"].to_numpy(str), return_inverse=True)
    utterances, utterance_of = np.unique(answers["utterance_id"].to_numpy(str), return_inverse=True)
    generator = np.random.default_rng(SEED)
    draws = []
    for _ in range(N_RESAMPLES // CHUNK):
        counts = [
            generator.multinomial(len(names), np.full(len(names), 1 / len(names)), CHUNK)
            for names in (raters, utterances)
        ]
        weights = counts[0][:, rater_of] * counts[1][:, utterance_of]
        total = weights.sum(axis=1)
        draws.append((weights @ values)[total > 0] / total[total > 0])
    low, high = (
        np.quantile(np.concatenate(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        if len(values) > 1
        else (math.nan, math.nan)
    )
    interval = Interval(float(values.mean()), float(low), float(high), len(utterances))
    return RatingResult(answers["experiments"].iloc[0], interval, len(answers), len(raters))
