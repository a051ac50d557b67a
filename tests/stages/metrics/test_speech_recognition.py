import math

import jiwer
import numpy as np
import pytest

from stages.common.errors import PipelineError
from stages.metrics import whisper_model
from stages.metrics.speech_recognition import align_words, count_errors
from stages.metrics.spoken_units import words_of
from stages.metrics.whisper_model import assemble_whisper


def test_a_known_mistake_has_its_error_rates():
    errors = count_errors(["the", "cat", "sat", "down"], ["the", "cap", "sat"])
    assert (errors.word_edits, errors.words) == (2, 4)
    assert (errors.character_edits, errors.characters) == (6, 16)  # t → p, and " down" is missing
    assert errors.word_error_rate == 0.5


def test_the_counts_are_jiwers():
    said, heard = "one two three four five", "one tree four fife six"
    errors = count_errors(said.split(), heard.split())
    assert errors.word_error_rate == pytest.approx(jiwer.wer(said, heard))
    assert errors.character_error_rate == pytest.approx(jiwer.cer(said, heard))


def test_words_heard_in_silence_are_edits_without_a_rate():
    errors = count_errors([], ["you"])
    assert errors.word_edits == 1 and math.isnan(errors.word_error_rate)


def test_nothing_heard_is_an_error_rate_of_one():
    assert count_errors(["good", "morning"], []).word_error_rate == 1.0


def test_differences_name_what_was_said_and_what_was_heard():
    differences = align_words(["the", "cat", "sat"], ["a", "cat", "sat", "down"])
    assert [(part.kind, part.said, part.heard) for part in differences] == [
        ("substitute", ("the",), ("a",)),
        ("equal", ("cat", "sat"), ("cat", "sat")),
        ("insert", (), ("down",)),
    ]


def test_characters_are_counted_with_the_languages_separator():
    assert count_errors(["a", "b"], ["a", "c"]).characters == 3
    errors = count_errors(["カ", "ー", "ナ"], ["カ", "ナ"], separator="")
    assert (errors.word_edits, errors.words, errors.character_edits, errors.characters) == (1, 3, 1, 3)


def test_real_speech_is_understood_and_twice_the_same(recognise, real_clip):
    clip = real_clip("agent-alreadyon")
    transcript = recognise(clip, 16000, "EN")
    expected = "That agent is already logged on. Please enter your agent number followed by the pound key."
    assert count_errors(words_of(expected, "EN"), words_of(transcript, "EN")).word_edits <= 1
    assert recognise(clip, 16000, "EN") == transcript


def test_long_speech_is_heard_to_its_end(recognise, real_clip):
    clip = real_clip("agent-alreadyon")
    pause = np.zeros(16000, dtype=np.float32)
    words = words_of(recognise(np.concatenate([clip, pause] * 6), 16000, "EN"), "EN")
    assert words.count("pound") >= 5


def test_silence_and_broken_samples_are_not_words(recognise):
    assert recognise(np.zeros(16000, dtype=np.float32), 16000, "EN") == ""
    assert recognise(np.full(16000, np.nan, dtype=np.float32), 16000, "EN") == ""
    assert recognise(np.zeros(0, dtype=np.float32), 16000, "EN") == ""


def test_a_damaged_model_is_put_together_anew(whisper_cache, recognise):
    folder = assemble_whisper(whisper_cache)
    model = folder / whisper_model.MODEL_FILE
    size = model.stat().st_size
    model.unlink()
    model.write_bytes(b"half a mod")
    assert assemble_whisper(whisper_cache) == folder
    assert model.stat().st_size == size
    assert [path.name for path in whisper_cache.iterdir()] == [folder.name]


def test_packages_with_other_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(whisper_model, "MODEL_SHA256", "0" * 64)
    with pytest.raises(PipelineError, match="expected 0000"):
        assemble_whisper(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(whisper_model, "PACKAGES", ("no_such_whisper_part1", "no_such_whisper_part2"))
    with pytest.raises(PipelineError, match="no-such-whisper-part1"):
        assemble_whisper(tmp_path)
