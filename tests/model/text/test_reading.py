"""Reading a text: unreadable characters left out on request, and the user's readings before all others."""

import pytest

from model.text.errors import TextError
from model.text.reading import read_text, read_with_lexicon

TOMATO = {"EN": {"tomato": "T AH0 M AA1 T OW0"}}


def phones_of(reading, word):
    sequence, start = reading.sequence, 0
    for one, count in zip(sequence.words, sequence.word2ph, strict=True):
        if one == word:
            return " ".join(sequence.phones[start : start + count])
        start += count
    raise AssertionError(f"{word} is not among {sequence.words}")


@pytest.mark.parametrize(
    ("language", "text"), [("EN", "Hello ☃ world."), ("ZH", "你好☃世界。"), ("JP", "今日は☃いい天気です。")]
)
def test_an_unreadable_character_is_an_error_that_names_it_or_left_out_with_a_note(language, text):
    with pytest.raises(TextError) as caught:
        read_text(text, language)
    assert caught.value.reason_code == "unreadable_character"
    assert caught.value.characters == "☃" and "U+2603" in caught.value.detail
    reading = read_text(text, language, drop_unreadable=True)
    assert reading.note == "dropped '☃' (U+2603)"
    without = read_text(text.replace("☃", ""), language)
    assert reading.sequence.phones == without.sequence.phones and without.note == ""


def test_every_unreadable_character_is_listed_once_in_order():
    assert read_text("a ☃ b ☂ c ☃", "EN", drop_unreadable=True).note == "dropped '☃' (U+2603), '☂' (U+2602)"


def test_what_folds_to_an_unreadable_character_is_left_out_too():
    reading = read_text("Hello ㍿ world", "EN", drop_unreadable=True)  # one character that stands for four kanji
    assert reading.dropped == "㍿" and reading.normalised == read_text("Hello world", "EN").normalised


@pytest.mark.parametrize("language", ["EN", "ZH", "JP"])
def test_a_text_of_unreadable_characters_alone_has_no_speech(language):
    with pytest.raises(TextError) as caught:
        read_text("☃☂", language, drop_unreadable=True)
    assert caught.value.reason_code == "no_speech" and "U+2603" in caught.value.detail


@pytest.mark.parametrize("language", ["EN", "ZH", "JP"])
def test_what_was_no_text_is_named(language):
    with pytest.raises(TextError) as caught:
        read_text("a\udce9b", language)
    assert caught.value.reason_code == "unreadable_character" and "U+DCE9" in caught.value.detail
    assert read_text("OK \udce9", language, drop_unreadable=True).dropped == "\udce9"


@pytest.mark.parametrize(
    ("language", "text", "word", "lexicon", "phones"),
    [
        ("EN", "A tomato.", "tomato", TOMATO, "t ah m aa t ow"),
        ("EN", "The GPT.", "GPT", {"EN": {"gpt": "G AH1 P T"}}, "g ah p t"),
        ("ZH", "重庆。", "重", {"ZH": {"重庆": "zhong4 qing1"}}, "zh ong"),
        ("ZH", "重庆。", "庆", {"ZH": {"重庆": "zhong4 qing1"}}, "q ing"),
        ("JP", "東京。", "東京", {"JP": {"東京": "アカ"}}, "a k a"),
    ],
)
def test_the_users_reading_comes_first(language, text, word, lexicon, phones):
    reading = read_with_lexicon(text, language, lexicon)
    assert phones_of(reading, word) == phones
    assert reading.sequence.phones != read_text(text, language).sequence.phones or language == "ZH"


def test_the_users_tones_are_taken_as_written():
    sequence = read_with_lexicon("重庆。", "ZH", {"ZH": {"重庆": "zhong4 qing1"}}).sequence
    assert sequence.tones[:4] == (4, 4, 1, 1)


@pytest.mark.parametrize(("language", "text"), [("ZH", "我吃tomato了。"), ("JP", "私はtomatoを食べた。")])
def test_the_users_english_readings_hold_inside_other_languages(language, text):
    plain, own = read_text(text, language), read_with_lexicon(text, language, TOMATO)
    assert phones_of(own, "tomato") == "t ah m aa t ow" != phones_of(plain, "tomato")
    assert own.sequence.words == plain.sequence.words and own.sequence.languages == plain.sequence.languages
    assert sum(own.sequence.word2ph) == len(own.sequence.phones) == len(own.sequence.tones)


def test_a_reading_concerns_what_is_spoken_not_only_what_is_written():
    assert (
        phones_of(read_with_lexicon("20 cats.", "EN", {"EN": {"twenty": "T W EH1 N IY0"}}), "twenty") == "t w eh n iy"
    )


def test_other_languages_readings_change_nothing():
    text = "日本の東京です。"
    assert read_with_lexicon(text, "JP", {"ZH": {"东京": "dong1 jing1", "日本": "ri4 ben3"}}) == read_text(text, "JP")
