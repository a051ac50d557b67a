"""Timing, results with targets, speech and the command line of the benchmarks."""

import importlib
import inspect
import itertools
import json

import numpy as np
import pytest
import soundfile

from bench.__main__ import main
from bench.harness.common import (
    MIN_ROUNDS,
    OURS,
    REFERENCE,
    THREAD_SETTINGS,
    Result,
    Timings,
    cost_result,
    interleave,
    rate_result,
    summary,
    table,
    write_result,
)
from bench.harness.registry import benchmarks
from bench.harness.speech import SpeechMissingError, kept_speech, read_clips, sample

CONTRACT_KEYS = {"name", "ours", "reference", "ratio", "limit_share", "target"}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path_factory):
    """Restore the environment that the command line changes, and give every test a work folder."""
    monkeypatch.setenv("VOICE_WORK_DIR", str(tmp_path_factory.mktemp("work")))
    monkeypatch.setenv("VOICE_WORKERS", "1")
    for name in THREAD_SETTINGS:
        monkeypatch.setenv(name, "1")


def make_result(**fields):
    values = {
        "name": "made_up",
        "ours": 1.0,
        "reference": 2.0,
        "ratio": 2.0,
        "limit_share": None,
        "target": None,
        "unit": "ms a clip",
    }
    return Result(**{**values, **fields})


def test_written_json_has_the_contracts_keys(tmp_path):
    path = write_result(tmp_path, make_result(limit_share=0.5, target=1.5))
    values = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == "made_up.json"
    assert values.keys() >= CONTRACT_KEYS
    assert (values["ratio"], values["limit_share"], values["target"], values["meets_target"]) == (2.0, 0.5, 1.5, True)


def test_a_ratio_above_one_means_ours_is_better_for_costs_and_for_rates():
    timings = Timings({OURS: 0.5, REFERENCE: 2.0, "limit": 0.25}, rounds=5)
    cost = cost_result("cost", timings, unit="ms", unit_seconds=1e-3, target=None)
    rate = rate_result("rate", timings, unit="per CPU-second", target=None)
    assert (cost.ours, cost.reference, rate.ours, rate.reference) == (500.0, 2000.0, 2.0, 0.5)
    assert cost.ratio == rate.ratio == 4.0
    assert cost.limit_share == rate.limit_share == 0.5


def test_targets_are_judged_on_the_ratio_on_the_value_and_on_the_share_of_the_limit():
    assert make_result().meets_target is None
    assert make_result(target=2.5).meets_target is False
    assert make_result(target=1.5, limit_share=0.6, limit_share_target=0.65).meets_target is False
    assert make_result(target=0.03, target_of="ours_at_most", ours=0.02).meets_target is True
    assert make_result(target=0.03, target_of="ours_at_most", ours=0.2).meets_target is False


def test_sides_take_turns_and_are_normalised_by_their_work():
    calls = []

    def busy(name):
        calls.append(name)
        sum(range(2_000_000))

    timings = interleave(
        {OURS: lambda: busy("a"), REFERENCE: lambda: busy("b")}, seconds=0.0, work={OURS: 1, REFERENCE: 100}
    )
    assert timings.rounds == MIN_ROUNDS
    assert calls[:2] == ["a", "a"] and "b" in calls[2:4]  # warm-up and calibration, then A B A B
    changes = sum(first != second for first, second in itertools.pairwise(calls[4:]))
    assert changes >= 2 * MIN_ROUNDS - 1
    assert timings.medians[REFERENCE] < timings.medians[OURS]


def test_the_table_shows_value_target_and_whether_it_is_met():
    missed = make_result(target=3.0, note="on real clips")
    met = make_result(name="other", target=5.0, target_of="ours_at_most", limit_share=0.25, reference=None, ratio=None)
    lines = table([missed, met]).splitlines()
    assert lines[0].split() == [
        "name",
        "measured",
        "unit",
        "target",
        "met",
        "reference",
        "ratio",
        "share",
        "of",
        "limit",
    ]
    assert lines[2].split() == ["made_up", "1", "ms", "a", "clip", "≥", "3", "×", "no", "2", "2.00", "×"]
    assert lines[3].split() == ["other", "1", "ms", "a", "clip", "≤", "5", "yes", "25%"]
    assert "made_up: on real clips" in lines


def test_the_summary_names_every_missed_target():
    missed = make_result(name="costly", ours=29.6, unit="CPU s", target=12.0, target_of="ours_at_most")
    far = make_result(name="far", target=1.5, limit_share=0.6, limit_share_target=0.65)
    assert summary([missed, make_result(target=1.5), make_result(), far]).splitlines() == [
        "targets: 1 of 3 met; 1 results without a target",
        "missed: costly: 29.6 CPU s (target ≤ 12)",
        "missed: far: 2.00 ×, 60% (≥ 65%) of the limit (target ≥ 1.5 ×)",
    ]


def test_every_benchmark_is_a_question_that_the_help_prints(capsys):
    questions = benchmarks()
    assert {"nothing_to_do", "incremental", "stft"} <= questions.keys()
    assert all(question.endswith("?") for question in questions.values())
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in text and question in text for name, question in questions.items() for text in (shown, listed))


def test_every_benchmark_can_be_run_by_its_name():
    for name in benchmarks():
        parameters = inspect.signature(importlib.import_module(f"bench.{name}").run).parameters
        assert "scratch" in parameters and parameters.keys() <= {"scratch", "clips"}, name


def test_an_unknown_name_lists_the_valid_ones(capsys):
    with pytest.raises(SystemExit):
        main(["no_such"])
    assert "no_such" in (message := capsys.readouterr().err) and "padding" in message


def test_missing_recordings_end_in_one_line_that_says_what_to_do(tmp_path, capsys):
    assert main(["padding", "--recordings", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error:") and "without --recordings" in last


def write_prompts(folder, lines, seed=0):
    """Write noise of some seconds for each (name, seconds, text), and transcripts.csv."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for name, seconds, _ in lines:
        soundfile.write(folder / f"{name}.wav", rng.uniform(-0.5, 0.5, int(16000 * seconds)), 16000)
    listed = [f"{name}.wav,{text}" for name, _, text in lines]
    (folder / "transcripts.csv").write_text("\n".join(["audio,text", *listed]), encoding="utf-8")


def test_only_spoken_prompts_of_some_length_are_taken(tmp_path):
    recordings = tmp_path / "recordings"
    write_prompts(
        recordings,
        [("word", 1.0, "A word."), ("tone", 1.0, "[a tone]"), ("short", 0.2, "Ah."), ("absent", 1.0, "Gone.")],
    )
    (recordings / "absent.wav").unlink()
    (clip,) = sample(read_clips(kept_speech(recordings, tmp_path / "kept")), 5)
    assert (clip.name, clip.text, len(clip.pcm)) == ("word", "A word.", 16000)
    write_prompts(recordings, [("tone", 1.0, "[a tone]")])
    with pytest.raises(SpeechMissingError, match="no spoken prompt"):
        kept_speech(recordings, tmp_path / "kept")
    write_prompts(recordings, [("short", 0.2, "Ah.")])
    with pytest.raises(SpeechMissingError, match="none of 1 spoken prompts"):
        kept_speech(recordings, tmp_path / "kept")


def test_recordings_are_decoded_again_only_when_one_of_them_or_its_text_changed(tmp_path, monkeypatch):
    recordings, kept = tmp_path / "recordings", tmp_path / "kept"
    lines = [("one", 1.0, "A word."), ("two", 1.0, "Another.")]
    write_prompts(recordings, lines)
    first = kept_speech(recordings, kept)
    with monkeypatch.context() as patch:
        patch.setattr("bench.harness.speech.decode_corpus", None)
        assert kept_speech(recordings, kept) == first
    write_prompts(recordings, lines, seed=1)
    second = kept_speech(recordings, kept)
    write_prompts(recordings, [*lines[:1], ("two", 1.0, "Something else.")], seed=1)
    third = kept_speech(recordings, kept)
    assert len({first, second, third}) == 3
    assert [clip.text for clip in read_clips(third)] == ["A word.", "Something else."]
    assert not np.array_equal(read_clips(first)[0].pcm, read_clips(second)[0].pcm)


def test_a_whole_run_writes_json_and_prints_the_table(tmp_path, capsys):
    rng = np.random.default_rng(0)
    lengths = rng.integers(12000, 64000, 60)
    for number, length in enumerate(lengths):
        soundfile.write(tmp_path / f"{number}.wav", rng.uniform(-0.5, 0.5, length), 16000)
    listed = "\n".join(f"{number}.wav,Something." for number in range(len(lengths)))
    (tmp_path / "transcripts.csv").write_text(f"audio,text\n{listed}", encoding="utf-8")
    out = tmp_path / "not" / "there"
    assert main(["padding", "--recordings", str(tmp_path), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("padding") and any(line.startswith("targets: ") for line in lines)
    assert json.loads((out / "padding_large.json").read_text(encoding="utf-8")).keys() >= CONTRACT_KEYS
