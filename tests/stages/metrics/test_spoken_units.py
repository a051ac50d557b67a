"""What error rates count: words in English, toned pinyin syllables in Chinese, kana in Japanese."""

import pytest

from stages.metrics.speech_recognition import count_errors
from stages.metrics.spoken_units import separator_of, words_of


def rate(said, heard, language):
    return count_errors(words_of(said, language), words_of(heard, language), separator_of(language)).word_error_rate


@pytest.mark.parametrize(
    ("text", "language", "units"),
    [
        ("Press 100, please!", "EN", "press one hundred please"),
        ("你好，世界！", "ZH", "ni3 hao3 shi4 jie4"),
        ("妈妈的", "ZH", "ma1 ma1 de5"),
        ("银行行长", "ZH", "yin2 hang2 hang2 zhang3"),
        ("略女", "ZH", "lve4 nv3"),
        ("我用GPT。", "ZH", "wo3 yong4 g p t"),
        ("東京タワー。", "JP", "ト ー キ ョ ー タ ワ ー"),
        ("ｶﾅ。", "JP", "カ ナ"),
    ],
)
def test_units_are_sound_without_case_and_marks(text, language, units):
    assert words_of(text, language) == units.split()


@pytest.mark.parametrize(
    ("one", "other", "language"),
    [
        ("press 100 please", "Press one hundred, please.", "EN"),
        ("他在这里。", "她在这里", "ZH"),
        ("長城很長", "长城很长", "ZH"),
        ("有25个人", "有二十五个人。", "ZH"),
        ("涨了3.5%", "涨了百分之三点五", "ZH"),
        ("ＧＰＴ很好", "GPT很好", "ZH"),
        ("私は映画が好きです。", "わたしはえいががすきです", "JP"),
        ("大阪の通り", "おおさかのとおり", "JP"),
        ("100円です", "百円です。", "JP"),
        ("続く", "つずく", "JP"),
        ("ｺｰﾋｰ", "コーヒー", "JP"),
        ("お母さん", "おかあさん", "JP"),
    ],
)
def test_the_same_sound_in_another_script_is_no_error(one, other, language):
    assert words_of(one, language) and rate(one, other, language) == 0


@pytest.mark.parametrize(
    ("said", "heard", "language", "expected"),
    [
        ("妈妈好", "马妈好", "ZH", 1 / 3),  # a tone
        ("四是四", "十是四", "ZH", 1 / 3),  # a consonant
        ("你好吗", "你吗", "ZH", 1 / 3),
        ("おばさん", "おばあさん", "JP", 1 / 4),  # a long vowel
        ("きって", "きて", "JP", 1 / 3),
        ("雨", "飴玉", "JP", 1.0),
        ("good day", "good bay", "EN", 1 / 2),
    ],
)
def test_another_sound_is_an_error_of_its_size(said, heard, language, expected):
    assert rate(said, heard, language) == pytest.approx(expected)


@pytest.mark.parametrize("language", ["EN", "ZH", "JP"])
@pytest.mark.parametrize("text", ["", " ", "…！", "☃", "\udce9"])
def test_what_is_no_speech_has_no_units(text, language):
    assert [unit for unit in words_of(text, language) if unit.isalnum()] == []


@pytest.mark.parametrize("language", ["EN", "ZH", "JP"])
@pytest.mark.parametrize("text", ["你好, hello ☃ こんにちは", "a" * 300, "１２３４５ ... Привет", "。。。ー々〇"])
def test_a_transcript_of_anything_is_compared_and_units_hold_no_spaces(text, language):
    assert not [unit for unit in words_of(text, language) if " " in unit]


def test_another_language_is_compared_by_words():
    assert words_of("Guten Tag, 2 Äpfel!", "DE") == ["guten", "tag", "2", "äpfel"]
