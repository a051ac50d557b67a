import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.text.english.front_end import spoken_words
from model.text.errors import TextError
from model.text.registry import get_front_end
from model.text.symbols import ENGLISH_PHONES, PAUSE_MARKS, SYMBOLS


def phones_of(text, lexicon=None):
    front_end = get_front_end("EN", lexicon)
    return " ".join(front_end.to_phones(front_end.normalise(text)).phones)


def test_words_and_marks_have_spans_phones_and_tones_of_their_own():
    sequence = get_front_end("EN").to_phones("Don't press GPT, now.")
    assert sequence.words == ("Don't", "press", "GPT", ",", "now", ".")
    assert sequence.word_spans == ((0, 5), (6, 11), (12, 15), (15, 16), (17, 20), (20, 21))
    assert sequence.word2ph == (4, 4, 6, 1, 2, 1)
    assert sequence.phones[:4] == ("d", "ow", "n", "t") and sequence.tones[:4] == (0, 2, 0, 0)
    assert sequence.phones[14:15] == (",",) and sequence.tones[14:15] == (0,)


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("voicemail", "V oy s m ey l"),
        ("unmuted", "ah n m y uw t ih d"),
        ("PBX", "p iy b iy eh k s"),
        ("PBXs", "p iy b iy eh k s z"),
        ("NASA", "n ae s ah"),
        ("the US", "dh ah y uw eh s"),
        ("give it to us", "g ih V ih t t uw ah s"),
        ("GIVE IT TO US", "g ih V ih t t uw ah s"),
        ("twenty-four", "t w eh n t iy f ao r"),
        ("thirty-four", "th er t iy f ao r"),
        ("re-enter", "r iy - eh n t er"),
        ("a dog", "ah d ao g"),
        ("Vitamin A", "V ay t ah m ah n ey"),
        ("Press A or B.", "p r eh s ey ao r b iy ."),
        ("a", "ey"),
        ("runnin'", "r ah n ih n"),
        ("Everyone's cats' bones", "eh V r iy w ah n z k ae t s b ow n z"),
        ("YouTube", "y uw t y uw b"),
        ("psst", "p s t"),
        ("café", "k ah f ey"),
    ],
)
def test_word_is_pronounced(text, phones):
    assert phones_of(text) == phones


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("to record", "t uw r ah k ao r d"),
        ("a record", "ah r eh k er d"),
        ("Record your name", "r ah k ao r d y ao r n ey m"),
        ("do not record", "d uw n aa t r ah k ao r d"),
        ("Use the key", "y uw z dh ah k iy"),
        ("is in use", "ih z ih n y uw s"),
        ("to read", "t uw r iy d"),
        ("I have read", "ay hh ae V r eh d"),
        ("to increase", "t uw ih n k r iy s"),
        ("an increase", "ae n ih n k r iy s"),
    ],
)
def test_homograph_is_told_apart_by_its_neighbours(text, phones):
    assert phones_of(text) == phones


def test_increase_is_stressed_by_its_part_of_speech():
    front_end = get_front_end("EN")
    assert front_end.to_phones("to increase").tones[2:] == (3, 0, 0, 0, 2, 0)
    assert front_end.to_phones("an increase").tones[2:] == (2, 0, 0, 0, 3, 0)


def test_users_lexicon_goes_before_everything_else():
    lexicon = {"Asterisk": ("AE1", "S", "T", "ER0", "IH2", "S", "K"), "GPT": "JH IY1 P", "record": "R EH1 K"}
    assert phones_of("asterisk GPT to record", lexicon) == "ae s t er ih s k jh iy p t uw r eh k"
    assert phones_of("to record") == "t uw r ah k ao r d"


@pytest.mark.parametrize("lexicon", [{"asterisk": "AE S T"}, {"asterisk": []}, {"two words": "T UW1"}])
def test_lexicon_that_is_no_arpabet_is_refused_by_word(lexicon):
    with pytest.raises(TextError, match=next(iter(lexicon))) as caught:
        get_front_end("EN", lexicon)
    assert caught.value.reason_code == "invalid_lexicon"


def test_text_that_was_not_normalised_is_refused_with_the_character():
    with pytest.raises(TextError, match="'3'") as caught:
        get_front_end("EN").to_phones("press 3")
    assert caught.value.reason_code == "unreadable_character"


def test_marks_alone_are_no_speech():
    with pytest.raises(TextError) as caught:
        get_front_end("EN").to_phones("…")
    assert caught.value.reason_code == "no_speech"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Press 100 now!", "press one hundred, now"),
        ("Dr. Smith paid $3.50", "doctor smith paid three dollars and fifty cents"),
        ("at 10:30 a.m.", "At ten thirty A M"),
        ("dial 1-800", "dial one to eight hundred"),
        ("GPT and IAX", "g p t and i a x"),
        ("twenty-four", "24"),
        ("", "…"),
    ],
)
def test_spoken_words_of_two_spellings_compare_equal(one, other):
    assert spoken_words(one) == spoken_words(other)


def test_spoken_words_count_foreign_script_as_words_instead_of_failing():
    assert spoken_words("hello 你好 world") == ["hello", "你好", "world"]


def test_same_text_gives_same_phones_in_a_fresh_front_end():
    text = "The zorblax unmuted GPT's 10:30 vocoder."
    assert phones_of(text) == phones_of(text, {"unrelated": "AH0 N"})


SPEECHLIKE = st.text(st.sampled_from("aAbcIMSVdet0123456789.,:;-'’\"$£%°&@#+=/*()[]<>~_ \t\n…–—½²éñ٣Ω你"), max_size=60)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=80), SPEECHLIKE))
def test_any_text_gives_consistent_phones_or_a_text_error(text):
    front_end = get_front_end("EN")
    try:
        normalised = front_end.normalise(text)
        sequence = front_end.to_phones(normalised)
    except TextError as error:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.reason_code)
        return
    assert sum(sequence.word2ph) == len(sequence.phones) == len(sequence.tones)
    assert min(sequence.word2ph) >= 1
    assert set(sequence.phones) <= ENGLISH_PHONES | set(PAUSE_MARKS) <= set(SYMBOLS)
    assert all(0 <= tone <= 3 for tone in sequence.tones)
    position = 0
    for word, (start, end) in zip(sequence.words, sequence.word_spans, strict=True):
        assert position <= start < end <= len(normalised) and normalised[start:end] == word
        position = end
    assert front_end.normalise(text) == normalised


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=60), SPEECHLIKE))
def test_spoken_words_never_fail(text):
    assert all(word and " " not in word for word in spoken_words(text))
