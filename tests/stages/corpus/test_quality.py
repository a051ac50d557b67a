"""Limits, the same samples twice, and texts that do not fit their recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stages.common.command import from_mapping
from stages.common.errors import ParamsError, RowRejected
from stages.corpus.quality import CorpusStatistics, QualityParams, check_limits, seconds_per_character

ROW: dict[str, Any] = {
    "utterance_id": "anna/1",
    "speaker": "anna",
    "language": "EN",
    "text": "One.",
    "sample_rate_hz": 48000,
    "samples_xxh3": 32 * "a",
    "clipped_share": 0.02,
    "dc_offset": -0.2,
    "noise_floor_dbfs": -30.0,
    "loudness_lufs": -50.0,
    "bandwidth_hz": 8000.0,
    "speech_share": 0.1,
    "seconds_per_character": 0.1,
}


@pytest.mark.parametrize(
    ("limit", "reason", "told"),
    [
        (
            {"max_clipped_share": 0.01},
            "clipped",
            "0.02 of the samples, more than corpus.quality.max_clipped_share = 0.01",
        ),
        ({"max_dc_offset": 0.1}, "dc_offset", "0.2 of full scale, more than corpus.quality.max_dc_offset = 0.1"),
        ({"max_noise_floor_dbfs": -40.0}, "noisy", "-30 dBFS, more than corpus.quality.max_noise_floor_dbfs = -40"),
        ({"min_loudness_lufs": -45.0}, "too_quiet", "-50 LUFS, less than corpus.quality.min_loudness_lufs = -45"),
        ({"min_bandwidth_hz": 9000.0}, "narrow_band", "8000 Hz, less than corpus.quality.min_bandwidth_hz = 9000"),
        (
            {"min_bandwidth_share": 0.6},
            "upsampled",
            "0.3333 of half the sample rate, less than corpus.quality.min_bandwidth_share = 0.6",
        ),
        (
            {"min_speech_share": 0.3, "measure_speech": True},
            "no_speech",
            "0.1 of the time, less than corpus.quality.min_speech_share = 0.3",
        ),
    ],
)
def test_a_finding_beyond_its_limit_rejects_with_number_and_limit(
    limit: dict[str, Any], reason: str, told: str
) -> None:
    with pytest.raises(RowRejected) as caught:
        check_limits(ROW, QualityParams(**limit))
    assert (caught.value.reason, caught.value.detail) == (reason, told)


def test_without_limits_everything_passes() -> None:
    check_limits(ROW, QualityParams())


def test_a_finding_at_its_limit_passes() -> None:
    check_limits(ROW, QualityParams(max_clipped_share=0.02, min_loudness_lufs=-50.0))


def test_what_has_nothing_to_measure_is_less_than_any_minimum() -> None:
    with pytest.raises(RowRejected, match="nothing measurable, less than"):
        check_limits({**ROW, "loudness_lufs": None}, QualityParams(min_loudness_lufs=-60.0))
    check_limits({**ROW, "noise_floor_dbfs": None}, QualityParams(max_noise_floor_dbfs=-60.0))


def statistics(rows: Sequence[dict[str, Any]]) -> CorpusStatistics:
    collected = CorpusStatistics()
    for row in rows:
        collected.add(row)
    return collected


def duration_deviations(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    deviations = statistics(rows).duration_deviations(np.ones(len(rows), dtype=np.bool_))
    return {
        row["utterance_id"]: float(found) for row, found in zip(rows, deviations, strict=True) if not np.isnan(found)
    }


def test_the_first_of_the_same_samples_is_found() -> None:
    rows = [{**ROW, "samples_xxh3": 16 * samples} for samples in ("aa", "bb", "aa", "00", "aa", "00")]
    assert statistics(rows).first_with_same_samples().tolist() == [0, 1, 0, 3, 0, 3]
    assert statistics([]).first_with_same_samples().tolist() == []


@pytest.mark.parametrize(("text", "expected"), [("Go on!", 0.5), ("你好。", 1.0), ("12", 1.0), ("…", None), ("", None)])
def test_letters_signs_and_digits_count(text: str, expected: float | None) -> None:
    assert seconds_per_character(2.0, text) == expected


def spoken(n_rows: int, speaker: str = "anna", rate: float = 0.08) -> list[dict[str, Any]]:
    """Texts of 5 to 100 characters spoken with half a second of pause and a spread of 10 %."""
    random = np.random.default_rng(5)
    rows = []
    for index in range(n_rows):
        count = int(random.integers(5, 100))
        seconds = (0.5 + rate * count) * float(np.exp(random.normal(0, 0.1)))
        rows.append(
            {
                **ROW,
                "utterance_id": f"{speaker}/{index:03}",
                "speaker": speaker,
                "text": "a" * count,
                "seconds_per_character": seconds / count,
            }
        )
    return rows


def test_a_wrong_text_stands_out_and_short_ones_do_not() -> None:
    rows = spoken(200)
    rows[17] = {**rows[17], "seconds_per_character": 3 * rows[17]["seconds_per_character"]}
    rows[18] = {**rows[18], "seconds_per_character": rows[18]["seconds_per_character"] / 3}
    deviations = duration_deviations(rows)
    assert deviations["anna/017"] > 7 and deviations["anna/018"] < -7
    assert max(abs(value) for name, value in deviations.items() if name not in ("anna/017", "anna/018")) < 5


def test_deviations_are_among_the_same_speaker() -> None:
    anna, bob = spoken(60), spoken(60, "bob", rate=0.2)
    mixed = [row for pair in zip(anna, bob, strict=True) for row in pair]
    assert (
        duration_deviations(anna + bob)
        == duration_deviations(mixed)
        == {**duration_deviations(anna), **duration_deviations(bob)}
    )


def test_small_groups_without_spread_or_letters_have_no_deviation() -> None:
    assert duration_deviations(spoken(29)) == {}
    assert duration_deviations([{**ROW, "utterance_id": str(index)} for index in range(50)]) == {}
    assert duration_deviations([{**row, "seconds_per_character": None} for row in spoken(50)]) == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_speech_share": 0.5}, "min_speech_share needs measure_speech: true"),
        ({"max_clipped_share": 2.0}, "max_clipped_share should be less than or equal to 1, found 2.0"),
        ({"duplicates": "drop"}, "duplicates should be 'keep' or 'keep_first', found 'drop'"),
        ({"max_noise": -40}, "unknown max_noise; valid: measure_speech, "),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        from_mapping(QualityParams, values, where="corpus.quality")
    assert message in str(caught.value)
