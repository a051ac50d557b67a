"""Intervals and paired differences on cases whose answers are known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from stages.metrics import bootstrap
from stages.metrics.bootstrap import (
    Difference,
    Verdict,
    confidence_interval,
    format_difference,
    paired_difference,
    verdict_of,
    verdict_sentence,
)
from stages.metrics.catalogue import Metric

MOS = Metric("mos", "Naturalness", "score", True, "")
CER = Metric("cer", "Character error rate", "percent", False, "", numerator="character_edits", denominator="characters")


def mos_rows(values: Any, speakers: Any = None) -> list[dict[str, Any]]:
    names = ["anna"] * len(values) if speakers is None else speakers
    return [
        {"utterance_id": f"u{number:05d}", "speaker": str(name), "mos": float(value)}
        for number, (value, name) in enumerate(zip(values, names, strict=True))
    ]


def cer_rows(edits: Any, characters: Any) -> list[dict[str, Any]]:
    return [
        {"utterance_id": f"u{number:05d}", "speaker": "anna", "character_edits": int(edit), "characters": int(length)}
        for number, (edit, length) in enumerate(zip(edits, characters, strict=True))
    ]


def test_a_constant_has_no_spread() -> None:
    interval = confidence_interval([mos_rows([3.5] * 12)], MOS)
    assert (interval.value, interval.low, interval.high, interval.n_utterances) == (
        3.5,
        pytest.approx(3.5),
        pytest.approx(3.5),
        12,
    )


def test_equal_runs_do_not_differ_to_the_last_bit() -> None:
    values = np.random.default_rng(1).normal(3, 1, 37)
    difference = paired_difference([mos_rows(values)], [mos_rows(values)], MOS)
    assert (difference.difference, difference.low, difference.high, difference.probability_better) == (0, 0, 0, 0.5)
    assert verdict_of(difference, MOS) is Verdict.SAME


def test_seeds_that_are_all_alike_are_the_same_however_they_add_up() -> None:
    rows = mos_rows(np.random.default_rng(13).normal(3, 1, 37))
    difference = paired_difference([rows], [rows, rows, rows], MOS)
    assert (difference.low, difference.high, difference.probability_better) == (0, 0, 0.5) and verdict_of(
        difference, MOS
    ) is Verdict.SAME


def test_a_constant_shift_is_certain_however_the_utterances_vary() -> None:
    values = np.random.default_rng(2).normal(3, 1, 40)
    difference = paired_difference([mos_rows(values)], [mos_rows(values + 0.25)], MOS)
    assert (
        difference.difference == pytest.approx(0.25)
        and difference.low == pytest.approx(0.25)
        and difference.high == pytest.approx(0.25)
    )
    assert difference.probability_better == 1 and verdict_of(difference, MOS) is Verdict.BETTER
    back = paired_difference([mos_rows(values + 0.25)], [mos_rows(values)], MOS)
    assert back.probability_better == 0 and verdict_of(back, MOS) is Verdict.WORSE


def test_the_interval_of_a_mean_is_students() -> None:
    """For a mean the percentiles of the bootstrap, widened as ours are, come near mean ± t · s / √n."""
    values = np.random.default_rng(3).normal(0, 1, 60)
    interval = confidence_interval([mos_rows(values)], MOS)
    half = 2.001 * values.std(ddof=1) / math.sqrt(60)  # t of 59 degrees of freedom
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02) and interval.high == pytest.approx(
        values.mean() + half, abs=0.02
    )


@pytest.mark.parametrize("n_utterances", [12, 50])
def test_intervals_cover_the_truth_as_often_as_they_say(n_utterances: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "N_RESAMPLES", 999)
    generator = np.random.default_rng(4)
    covered = 0
    for _ in range(400):
        base = generator.normal(3, 1, n_utterances)
        difference = paired_difference(
            [mos_rows(base)], [mos_rows(base + generator.normal(0.3, 0.5, n_utterances))], MOS
        )
        covered += difference.low <= 0.3 <= difference.high
    assert 0.92 <= covered / 400 <= 0.98  # the standard error of 400 trials is 1.1 %


def test_pairs_that_go_together_give_narrower_intervals_than_unrelated_ones() -> None:
    generator = np.random.default_rng(5)
    base = generator.normal(3, 1, 100)
    other = base + generator.normal(0.1, 0.1, 100)
    paired = paired_difference([mos_rows(base)], [mos_rows(other)], MOS)
    unrelated = paired_difference([mos_rows(base)], [mos_rows(generator.permutation(other))], MOS)
    assert paired.difference == pytest.approx(unrelated.difference)
    assert (paired.high - paired.low) * 5 < unrelated.high - unrelated.low


def test_error_rates_are_edits_over_characters_not_means_of_rates() -> None:
    rows_a, rows_b = cer_rows([1, 0, 10], [10, 10, 80]), cer_rows([0, 0, 5], [10, 10, 80])
    difference = paired_difference([rows_a], [rows_b], CER)
    assert difference.difference == pytest.approx(5 / 100 - 11 / 100) and difference.difference == CER.figure(
        rows_b
    ) - CER.figure(rows_a)


def test_two_utterances_give_the_two_values_as_bounds_and_no_verdict() -> None:
    """Of two utterances a resample has both, or one twice: the extremes are the values themselves."""
    interval = confidence_interval([mos_rows([2.0, 4.0])], MOS)
    assert (interval.value, interval.low, interval.high) == (3.0, 2.0, 4.0)
    difference = paired_difference([mos_rows([2.0, 4.0])], [mos_rows([3.0, 5.0])], MOS)
    assert verdict_of(difference, MOS) is Verdict.TOO_FEW
    assert (
        verdict_sentence("A", "B", MOS, difference)
        == "Too few utterances for a verdict: naturalness was measured for 2 in both, at least 10 are needed."
    )


def test_one_utterance_or_none_has_no_bounds() -> None:
    one, none = confidence_interval([mos_rows([3.0])], MOS), confidence_interval([mos_rows([math.nan])], MOS)
    assert one.value == 3.0 and math.isnan(one.low) and math.isnan(one.high)
    assert math.isnan(none.value) and math.isnan(none.low) and none.n_utterances == 0
    assert math.isnan(paired_difference([mos_rows([3.0])], [mos_rows([math.nan])], MOS).probability_better)


def test_only_utterances_known_in_both_are_paired() -> None:
    known = np.linspace(2, 4, 20)
    a, b = known.copy(), known + 1
    a[3], b[5] = math.nan, math.nan
    difference = paired_difference([mos_rows(a)], [mos_rows(b)[:-1]], MOS)  # and one that B lacks altogether
    assert (
        difference.n_utterances == 17
        and difference.difference == pytest.approx(1)
        and difference.high == pytest.approx(1)
    )


def test_the_order_of_the_rows_does_not_matter() -> None:
    values = np.random.default_rng(6).normal(3, 1, 20)
    rows_a, rows_b = mos_rows(values), mos_rows(values + 1)
    assert paired_difference([rows_a], [rows_b[::-1]], MOS).difference == pytest.approx(1)


def test_many_speakers_are_drawn_whole_and_their_likeness_widens_the_interval() -> None:
    generator = np.random.default_rng(7)
    speakers = np.repeat(np.arange(20), 10)
    effect = np.repeat(generator.normal(0.2, 0.5, 20), 10) + generator.normal(0, 0.1, 200)
    clustered = paired_difference([mos_rows(np.zeros(200), speakers)], [mos_rows(effect, speakers)], MOS)
    as_one = paired_difference([mos_rows(np.zeros(200))], [mos_rows(effect)], MOS)
    assert (clustered.drawn, clustered.n_clusters, as_one.drawn, as_one.n_clusters) == ("speakers", 20, "utterances", 1)
    expected = effect.reshape(20, 10).mean(axis=1).std(ddof=1) / math.sqrt(20) * 2 * 2.093  # t of 19 degrees of freedom
    assert clustered.high - clustered.low == pytest.approx(expected, rel=0.1)
    assert clustered.high - clustered.low > 2 * (as_one.high - as_one.low)


def test_few_speakers_are_strata_so_that_what_sets_them_apart_adds_no_doubt() -> None:
    generator = np.random.default_rng(8)
    speakers = np.repeat(["anna", "ben"], 50)
    values = np.where(speakers == "anna", 2.0, 4.0) + generator.normal(0, 0.1, 100)
    stratified, as_one = (
        confidence_interval([mos_rows(values, speakers)], MOS),
        confidence_interval([mos_rows(values)], MOS),
    )
    assert (stratified.high - stratified.low) * 5 < as_one.high - as_one.low


def test_speakers_of_a_single_utterance_are_drawn_from_together_so_that_the_interval_does_not_vanish() -> None:
    values = np.random.default_rng(9).normal(3, 1, 9)
    interval = confidence_interval([mos_rows(values, [f"speaker {number}" for number in range(9)])], MOS)
    assert interval.high - interval.low > 0.5
    left_over = confidence_interval([mos_rows([*values, 30.0], ["anna"] * 9 + ["ben"])], MOS)
    assert left_over.high > 6, "ben's only utterance is drawn along with anna's"


def test_seeds_add_their_own_spread() -> None:
    """Seeds that differ by s in the mean give an interval of about ± t · s / √n although every utterance agrees."""
    generator = np.random.default_rng(10)
    base = generator.normal(3, 0.01, 50)
    shifts = generator.normal(0, 0.3, 8)
    runs = [mos_rows(base + shift) for shift in shifts]
    several, single = confidence_interval(runs, MOS), confidence_interval([runs[0]], MOS)
    assert several.value == pytest.approx(base.mean() + shifts.mean())
    assert several.high - several.low == pytest.approx(
        2 * 2.365 * shifts.std(ddof=1) / math.sqrt(8), rel=0.1
    )  # 7 degrees of freedom
    assert several.high - several.low > 10 * (single.high - single.low)


def test_intervals_over_few_seeds_cover_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "N_RESAMPLES", 999)
    generator = np.random.default_rng(14)

    def voice(base: Any) -> list[list[dict[str, Any]]]:
        return [mos_rows(base + generator.normal(0, 0.2) + generator.normal(0, 0.1, 25)) for _ in range(3)]

    covered = 0
    for _ in range(200):
        base = generator.normal(3, 0.3, 25)
        difference = paired_difference(voice(base), voice(base), MOS)
        covered += difference.low <= 0 <= difference.high
    assert 0.91 * 200 <= covered < 200


def test_a_single_seed_is_taken_to_vary_as_the_others_seeds_do() -> None:
    base = np.random.default_rng(15).normal(3, 0.01, 50)
    several = [mos_rows(base + shift) for shift in (-0.2, -0.1, 0.0, 0.1, 0.2)]
    difference = paired_difference(several, [mos_rows(base + 0.3)], MOS)
    expected = 2.776 * np.std([-0.2, -0.1, 0.0, 0.1, 0.2], ddof=1) * math.sqrt(1 / 5 + 1)  # t of 4 degrees of freedom
    assert (
        difference.high - difference.difference == pytest.approx(expected, rel=0.1)
        and verdict_of(difference, MOS) is Verdict.UNCLEAR
    )


def test_a_difference_smaller_than_that_of_seeds_is_not_shown() -> None:
    base = np.random.default_rng(11).normal(3, 0.1, 60)
    runs_a = [mos_rows(base + shift) for shift in (-0.2, 0.0, 0.2)]
    runs_b = [mos_rows(base + shift + 0.1) for shift in (-0.2, 0.0, 0.2)]
    assert verdict_of(paired_difference([runs_a[1]], [runs_b[1]], MOS), MOS) is Verdict.BETTER
    difference = paired_difference(runs_a, runs_b, MOS)
    assert difference.difference == pytest.approx(0.1) and verdict_of(difference, MOS) is Verdict.UNCLEAR


def test_results_repeat_and_do_not_depend_on_how_many_draws_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(12).normal(3, 1, 300)
    whole = confidence_interval([mos_rows(values)], MOS)
    assert confidence_interval([mos_rows(values)], MOS) == whole
    monkeypatch.setattr(bootstrap, "CHUNK_VALUES", 300 * 64)
    assert confidence_interval([mos_rows(values)], MOS) == whole


@pytest.mark.parametrize(
    ("metric", "bounds", "sentence"),
    [
        (
            CER,
            (-0.033, -0.021, -0.010),
            "B is better than A: character error rate lower by 2.1 points (95 % interval 1.0 to 3.3).",
        ),
        (
            CER,
            (0.010, 0.021, 0.033),
            "B is worse than A: character error rate higher by 2.1 points (95 % interval 1.0 to 3.3).",
        ),
        (MOS, (0.1, 0.25, 0.4), "B is better than A: naturalness higher by 0.25 (95 % interval 0.10 to 0.40)."),
        (
            CER,
            (-0.012, -0.003, 0.006),
            "No difference could be shown: character error rate of B minus A is −0.3 points "
            "(95 % interval −1.2 to +0.6).",
        ),
        (MOS, (0.0, 0.0, 0.0), "A and B are the same: naturalness does not differ on any utterance."),
    ],
)
def test_verdicts_are_sentences(metric: Metric, bounds: tuple[float, float, float], sentence: str) -> None:
    low, middle, high = bounds
    said = verdict_sentence("A", "B", metric, Difference(middle, low, high, 0.9, 25, 1, "utterances"))
    assert said.replace("\N{NARROW NO-BREAK SPACE}", " ") == sentence


def test_an_interval_that_holds_zero_is_unclear_whichever_way_the_metric_goes() -> None:
    difference = Difference(0.1, -0.1, 0.3, 0.8, 25, 1, "utterances")
    assert verdict_of(difference, MOS) is verdict_of(difference, CER) is Verdict.UNCLEAR
    assert verdict_of(dataclasses.replace(difference, low=math.nan, high=math.nan), MOS) is Verdict.TOO_FEW


def test_differences_are_signed_and_rates_differ_by_points() -> None:
    shown = [
        format_difference(value, unit).replace("\N{NARROW NO-BREAK SPACE}", " ")
        for value, unit in ((-0.021, "percent"), (0.5, "score"), (12.4, "cents"), (0.0001, "percent"), (math.nan, "dB"))
    ]
    assert shown == ["−2.1 points", "+0.50", "+12 cents", "0.0 points", "–"]
