import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest

from stages.evaluate import scoring
from stages.evaluate.scoring import ROW_SCHEMA, ScoringSettings, speed, summarise
from stages.metrics.perceptual import PerceptualEvaluator, Sound
from tests.stages.speech_sounds import make_rendition, make_row


@pytest.fixture(scope="module")
def spoken(real_clip):
    texts = {
        "agent-alreadyon": "That agent is already logged on. Please enter your agent number followed by the pound key.",
        "call-waiting": "Call waiting.",
    }
    return [
        make_rendition(
            name,
            text,
            recording=real_clip(name),
            synthesis=real_clip(name),
            resynthesis=0.5 * real_clip(name),
        )
        for name, text in texts.items()
    ]


@pytest.fixture(scope="module")
def row_store(tmp_path_factory):
    """Results of the perceptual networks, shared by the tests."""
    return tmp_path_factory.mktemp("rows")


@pytest.fixture
def score(whisper_cache, row_store, monkeypatch):
    """Return a function that scores with a row store, by default the shared one."""

    def run(renditions, *, hear=("mos", "speaker_similarity"), threads=1, speakers=None, anchors=20, store=row_store):
        monkeypatch.setenv("VOICE_ROW_STORE", str(store))
        evaluator = PerceptualEvaluator(whisper_cache, hear, threads=threads)
        return scoring.score(
            renditions, evaluator, speakers or {}, ScoringSettings(anchors, threads, show_progress=False)
        )

    return run


def test_perfect_synthesis_of_real_speech_scores_like_the_recording(spoken, score):
    rows, summary = score(spoken)
    table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
    assert table["utterance_id"].to_pylist() == [rendition.utterance_id for rendition in spoken]
    assert summary["mcd_db"] == 0 and summary["f0_rmse_cents"] == 0 and summary["duration_error"] == 0
    assert summary["wer"] == summary["recording_wer"] <= 0.15
    assert summary["mos"] == summary["recording_mos"] > 2
    assert (
        summary["f0_correlation"] == pytest.approx(1)
        and summary["energy_rmse_db"] == 0
        and summary["duration_ratio"] == 1
    )
    assert "speaker_similarity" not in summary, "no reference recordings"
    assert summary["n_unscored"] == 0
    assert summary["n_utterances"] == 2 and summary["n_utterances_3_words"] == 1


def test_noise_is_every_metrics_floor(spoken, score):
    _, summary = score(
        spoken, speakers={spoken[0].speaker: [Sound(spoken[0].recording, spoken[0].sample_rate_hz, None)]}
    )
    assert summary["noise_cer"] > 0.5 > summary["recording_cer"] and summary["noise_mos"] < summary["recording_mos"] - 1
    assert summary["noise_speaker_similarity"] < 0.6 < summary["recording_speaker_similarity"]
    assert (
        summary["noise_mcd_db"] > 6
        and summary["noise_energy_rmse_db"] > 3
        and abs(summary.get("noise_f0_correlation", 0)) < 0.7
    )


def test_anchors_are_heard_for_some_utterances_only(spoken, score):
    rows, summary = score(spoken, hear=(), anchors=1)
    assert [row["noise_transcript"] is None for row in rows] == [False, True]
    assert [row["resynthesis_cer"] is None for row in rows] == [False, True] and all(
        row["recording_cer"] is not None for row in rows
    )
    assert summary["resynthesis_wer"] == rows[0]["resynthesis_wer"]


def test_scores_do_not_depend_on_the_number_of_threads(spoken, score, tmp_path):
    alone = score(spoken, anchors=1)
    together = score(spoken, anchors=1, threads=3, store=tmp_path)
    assert repr(alone) == repr(together)  # as text, because NaN differs from itself


def test_failed_synthesis_is_scored_as_nothing_heard_and_noted(spoken, score):
    failed = make_rendition(
        text=spoken[0].text,
        recording=spoken[0].recording,
        synthesis=np.zeros(0, dtype=np.float32),
        resynthesis=np.full(16000, np.nan, dtype=np.float32),
    )
    rows, summary = score([failed])
    assert rows[0]["wer"] == 1.0 and rows[0]["transcript"] == ""
    assert math.isnan(rows[0]["mcd_db"]) and math.isnan(rows[0]["mos"])
    assert rows[0]["note"] == "synthesis: 0.000 s is too short to analyse; resynthesis: 16000 samples are not finite"
    assert summary["n_unscored"] == 1 and summary["wer"] == 1.0
    assert "mcd_db" not in summary and "mos" not in summary
    assert all(math.isfinite(value) for value in summary.values())


def test_no_renditions_are_refused(score):
    with pytest.raises(ValueError, match="no rendition"):
        score([])


def test_error_rates_of_the_corpus_are_ratios_of_sums():
    rows = [
        make_row(word_edits=1, words=1, character_edits=4, characters=4),
        make_row(word_edits=1, words=9, characters=36),
    ]
    summary = summarise(rows)
    assert summary["wer"] == pytest.approx(2 / 10) and summary["cer"] == pytest.approx(4 / 40)
    assert summary["wer_3_words"] == pytest.approx(1 / 9) and summary["cer_3_words"] == 0


def test_averages_leave_out_what_is_not_known():
    assert summarise([make_row(mcd_db=4.0), make_row(mcd_db=float("nan")), make_row(mcd_db=6.0)])["mcd_db"] == 5.0


def test_the_real_time_factor_is_total_time_over_total_length():
    rows = [
        make_row(synthesis_wall_seconds=1.0, synthesis_seconds=2.0),
        make_row(synthesis_wall_seconds=1.0, synthesis_seconds=6.0),
    ]
    assert speed(rows, 3 * 2**20) == {
        "real_time_factor": pytest.approx(0.25),
        "cpu_real_time_factor": 0,
        "peak_memory_mib": 3,
    }
    assert not [key for key in summarise(rows) if "real_time" in key], "the summary is the same in every run"


def test_speakers_are_told_apart_where_there_are_several():
    rows = [make_row(word_edits=1), make_row(speaker="b.o.b", word_edits=3)]
    summary = summarise(rows)
    assert (summary["speaker.ada.wer"], summary["speaker.b.o.b.wer"]) == (0.25, 0.75)
    assert not [key for key in summary if key.startswith("language.")]


def test_languages_have_their_own_units_rates_beside_the_overall_ones():
    rows = [
        make_row(language="EN", words=4, word_edits=1, characters=20, character_edits=2),
        make_row(language="ZH", words=10, word_edits=4, characters=39, character_edits=8, recording_word_edits=1),
        make_row(language="JP", words=10, word_edits=2, characters=10, character_edits=2, resynthesis_word_edits=1),
    ]
    summary = summarise(rows)
    assert summary["language.ZH.pinyin_error_rate"] == summary["language.ZH.wer"] == pytest.approx(0.4)
    assert summary["language.ZH.recording_pinyin_error_rate"] == pytest.approx(0.1)
    assert summary["language.JP.kana_error_rate"] == summary["language.JP.cer"] == pytest.approx(0.2)
    assert summary["language.JP.resynthesis_kana_error_rate"] == pytest.approx(0.1)
    assert (summary["language.EN.wer"], summary["language.EN.cer"]) == pytest.approx((0.25, 0.1))
    assert summary["wer"] == pytest.approx(7 / 24) and summary["cer"] == pytest.approx(12 / 69)
    assert not [key for key in summary if key.startswith("language.EN.") and ("pinyin" in key or "kana" in key)]


def test_a_corpus_in_one_language_that_is_not_english_has_its_rate():
    assert summarise([make_row(language="JP", words=10, word_edits=2)])["language.JP.kana_error_rate"] == pytest.approx(
        0.2
    )
    assert not [key for key in summarise([make_row()]) if "." in key]


def test_recordings_of_machines_stay_labelled(spoken, score):
    rows, _ = score([dataclasses.replace(spoken[1], recording_is_synthetic=True), spoken[1]], hear=())
    assert [row["synthetic"] for row in rows] == [True, False]
