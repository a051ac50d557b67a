from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.text.errors import TextError
from model.text.registry import get_front_end
from model.text.symbols import PAUSE_MARKS, SYMBOLS


def sequence_of(text, lexicon=None):
    front_end = get_front_end("JP", lexicon)
    return front_end.to_phones(front_end.normalise(text))


def phones_of(text, lexicon=None):
    return " ".join(sequence_of(text, lexicon).phones)


def pitch_of(text):
    return "".join("LH"[tone] for tone in sequence_of(text).tones)


def test_words_and_marks_have_spans_phones_and_pitch_of_their_own():
    sequence = get_front_end("JP").to_phones("雨が,降る.")
    assert sequence.words == ("雨", "が", ",", "降る", ".")
    assert sequence.word_spans == ((0, 1), (1, 2), (2, 3), (3, 5), (5, 6))
    assert sequence.phones == ("a", "m", "e", "g", "a", ",", "f", "u", "r", "u", ".")
    assert sequence.tones == (1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0)
    assert sequence.word2ph == (3, 2, 1, 4, 1)
    assert sequence.languages == ("JP",) * 5


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        # Long vowels, written with a mark, with kana, in kanji.
        ("コーヒー", "k o o h i i"),
        ("スーパーマーケット", "s u u p a a m a a k e q t o"),
        ("ありがとう", "a r i g a t o o"),
        ("東京", "t o o ky o o"),
        ("先生", "s e N s e e"),
        ("大きい", "o o k i i"),
        ("すごーい", "s u g o o i"),
        ("おはよ〜", "o h a y o o"),
        # The u of a verb is no long vowel.
        ("思う", "o m o u"),
        ("歌う", "u t a u"),
        # The stop and the moraic nasal.
        ("学校", "g a q k o o"),
        ("切手", "k i q t e"),
        ("びっくり", "b i q k u r i"),
        ("あっ", "a q"),
        ("散歩", "s a N p o"),
        ("本を", "h o N o"),
        ("こんにちは", "k o N n i ch i w a"),
        # Palatalised and foreign syllables.
        ("旅行", "ry o k o o"),
        ("百", "hy a k u"),
        ("ティーパーティー", "t i i p a a t i i"),
        ("ファイル", "f a i r u"),
        ("ヴァイオリン", "V a i o r i N"),
        ("チェック", "ch e q k u"),
        ("ウェブ", "w e b u"),
        ("デュエット", "dy u e q t o"),
        ("クォーター", "k w o o t a a"),
        ("フュージョン", "f y u u j o N"),
        ("ツァーリ", "ts a a r i"),
        # Devoiced vowels are plain vowels.
        ("です", "d e s u"),
        ("好き", "s u k i"),
        # Particles.
        ("私は", "w a t a sh i w a"),
        ("母は花を", "h a h a w a h a n a o"),
        ("学校へ", "g a q k o o e"),
        ("今日は", "ky o o w a"),
        # Readings that only the whole word has.
        ("お母さん", "o k a a s a N"),
        ("お父さん", "o t o o s a N"),
        ("図書館", "t o sh o k a N"),
        ("一人", "h i t o r i"),
        ("二十日", "h a ts u k a"),
        ("二十歳", "h a t a ch i"),
        ("大人", "o t o n a"),
        ("人々", "h i t o b i t o"),
        ("八百屋", "y a o y a"),
        ("こゝろ", "k o k o r o"),
        # Half-width and full-width forms.
        ("ｶﾞｯｺｳ", "g a q k o o"),
        ("ﾋﾟｱﾉ", "p i a n o"),
        ("か゛っこう", "g a q k o o"),
    ],
)
def test_word_is_pronounced(text, phones):
    assert phones_of(text) == phones


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("1,200円", "s e N n i hy a k u e N"),
        ("800円", "h a q py a k u e N"),
        ("300本", "s a N by a q p o N"),
        ("1本", "i q p o N"),
        ("3本", "s a N b o N"),
        ("6匹", "r o q p i k i"),
        ("4人", "y o n i N"),
        ("2人", "f u t a r i"),
        ("4月1日", "sh i g a ts u ts u i t a ch i"),
        ("9時", "k u j i"),
        ("10時30分", "j u u j i s a N j u q p u N"),
        ("5分", "g o f u N"),
        ("10分で", "j u q p u N d e"),
        ("12分", "j u u n i f u N"),
        ("十分に", "j u u b u N n i"),
        ("7つ", "n a n a ts u"),
        ("50%", "g o j u q p a a s e N t o"),
        ("1.5", "i q t e N g o"),
        ("１．５", "i q t e N g o"),
        ("0.5", "r e e t e N g o"),
        ("2024年", "n i s e N n i j u u y o n e N"),
        ("二〇二四年", "n i s e N n i j u u y o n e N"),
        ("1000万人", "i q s e N m a N n i N"),
        ("1/2", "n i b u N n o i ch i"),
        ("03-1234-5678", "z e r o s a N , i ch i n i i s a N y o N , g o o r o k u n a n a h a ch i"),
        ("0", "z e r o"),
    ],
)
def test_number_is_read(text, phones):
    assert phones_of(text) == phones


@pytest.mark.parametrize(
    ("text", "pitch"),
    [
        # Accent on the first mora, on the last (the particle falls), nowhere (the particle stays high).
        ("箸が", "HHLLLL"),
        ("橋が", "LLHHLL"),
        ("端が", "LLHHHH"),
        ("雨が", "HLLLL"),
        ("飴が", "LHHHH"),
        # A long vowel's moras may differ: to LOW, o HIGH.
        ("東京", "LLHHHH"),
        ("コーヒー", "LLHHHL"),
        ("お菓子が", "LHHLLLL"),
        ("男が", "LHHHHLL"),
    ],
)
def test_pitch_follows_the_accent(text, pitch):
    assert pitch_of(text) == pitch


@pytest.mark.parametrize(
    ("text", "english", "rest"),
    [
        ("GPTを使う", ["GPT"], "o ts u k a u"),
        ("iPhoneを買った", ["iPhone"], "o k a q t a"),
        ("Wi-Fiがない", ["wifi"], "g a n a i"),
        ("Pythonは楽しい", ["Python"], "w a t a n o sh i i"),
        ("Tokyoへ行く", ["Tokyo"], "e i k u"),
        ("Ｐｙｔｈｏｎで書く", ["Python"], "d e k a k u"),
        ("「New York Times」を読む", ["New", "York", "Times"], "o y o m u"),
        ("彼はNHKのDJです", ["NHK", "DJ"], "k a r e w a n o d e s u"),
        ("3D映画", ["three", "D"], "e e g a"),
    ],
)
def test_latin_words_are_english_and_the_particles_after_them_japanese(text, english, rest):
    sequence = sequence_of(text)
    by_language = list(zip(sequence.words, sequence.languages, strict=True))
    assert [word for word, language in by_language if language == "EN"] == english
    japanese = [
        phone for phone, language in zip(sequence.phones, sequence.phone_languages, strict=True) if language == "JP"
    ]
    assert " ".join(japanese) == rest


def test_latin_word_has_the_english_front_ends_phones_and_tones():
    english = get_front_end("EN").to_phones("computer")
    sequence = sequence_of("そのcomputerが")
    place = sequence.words.index("computer")
    assert sequence.word_spans[place] == (2, 10)
    start = sum(sequence.word2ph[:place])
    assert sequence.phones[start : start + len(english.phones)] == english.phones
    assert sequence.tones[start : start + len(english.phones)] == english.tones


def test_mark_between_english_words_is_english_and_any_other_japanese():
    sequence = sequence_of("Hello, world!と言う。")
    marks = [
        (word, language)
        for word, language in zip(sequence.words, sequence.languages, strict=True)
        if word in PAUSE_MARKS
    ]
    assert marks == [(",", "EN"), ("!", "JP"), (".", "JP")]


def test_reading_of_the_lexicon_comes_before_all_else_and_the_longest_word_first():
    lexicon = {
        "東京": "アズマキョウ",
        "東京湾": "トウキョウベイ",
        "GPT": "ジーピーティー",
        "今日": "コンニチ",
        "♪": "オンプ",
    }
    assert phones_of("東京の今日", lexicon) == "a z u m a ky o o n o k o N n i ch i"
    assert phones_of("東京湾へ", lexicon) == "t o o ky o o b e e e"
    assert phones_of("GPTは", lexicon) == "j i i p i i t i i w a"
    assert phones_of("♪を", lexicon) == "o N p u o"
    assert sequence_of("東京のGPT", lexicon).languages == ("JP",) * 3
    # Only whole Latin words, and only in this front end.
    assert sequence_of("GPTsは", lexicon).languages == ("EN", "JP")
    assert phones_of("東京") == "t o o ky o o"


def test_reading_of_the_lexicon_tells_long_vowels_from_two_vowels():
    assert phones_of("先生", {"先生": "センセイ"}) == "s e N s e e"
    assert phones_of("西班牙", {"西班牙": "スペ・イン"}) == "s u p e i N"
    assert phones_of("宇宙", {"宇宙": "コスモー"}) == "k o s u m o o"
    assert phones_of("宇宙", {"宇宙": "こすも"}) == "k o s u m o"
    assert sequence_of("東京が", {"東京": "トウキョウ"}).tones == (0, 0, 1, 1, 1, 1, 1, 1)


@pytest.mark.parametrize("reading", ["", "tokyo", "東京", "ー", "ト！", []])
def test_lexicon_reading_that_is_not_katakana_is_refused_with_its_word(reading):
    with pytest.raises(TextError, match=r"invalid_lexicon.*東京"):
        get_front_end("JP", {"東京": reading})


def test_lexicon_word_without_anything_to_speak_is_refused():
    with pytest.raises(TextError, match="invalid_lexicon"):
        get_front_end("JP", {"「」": "カギカッコ"})


def test_text_that_is_not_normalised_is_refused_where_it_cannot_be_read():
    with pytest.raises(TextError) as error:
        get_front_end("JP").to_phones("3つの😀")
    assert error.value.reason_code == "unreadable_character" and error.value.characters == "3😀"


def test_long_text_is_read_in_pieces_with_every_span_in_place():
    text = "今日は学校へ行きました。" * 400
    sequence = sequence_of(text)
    once = sequence_of("今日は学校へ行きました。")
    assert sequence.phones == once.phones * 400
    assert sequence.word_spans[-1] == (len(text) - 1, len(text))


def test_threads_share_a_front_end():
    texts = ["今日は晴れです。", "GPTを使う", "東京タワーは333メートルです。", "お母さんと一緒に"] * 8
    alone = [sequence_of(text) for text in texts]
    front_end = get_front_end("JP", {"使用例": "シヨウレイ"})
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: front_end.to_phones(front_end.normalise(text)), texts)) == alone


JAPANESE_ALPHABET = (
    "あいうえおかがきくけこさしすせそたちつてとなにぬねのはひふへほばぱ"
    "まみむめもやゆよらりるれろわをんゔっゃゅょぁゝゞ"
    "アイウエオカガキクケコサシスセソタチツテトナハバパフヴマミラリルンッャュョァィェォーヽヵヶヷ"
    "一二三十百千万億円年月日時分人今明昨東京都図書館父母鵺鼬々〆〇零01234567"
    "89０１.,:;/%¥$〜~ー−-「」（）、。！？…‥・ 　"
    "abcXYZＡＢ'é℃①Ⅳ½²ﾊﾞﾟｰ\u3099\u200d\ufe0f\n"
)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(
        st.text(max_size=30),
        st.text(alphabet=JAPANESE_ALPHABET, max_size=40),
        st.tuples(st.text(alphabet=JAPANESE_ALPHABET, max_size=12), st.text(max_size=6)).map("".join),
    )
)
def test_any_text_is_read_with_whole_counts_or_refused(text):
    front_end = get_front_end("JP")
    try:
        normalised = front_end.normalise(text)
    except TextError as error:
        assert set(error.characters) <= set(text)
        assert (error.reason_code == "unreadable_character") == bool(error.characters)
        readable = "".join(character for character in text if character not in error.characters)
        if error.characters:
            # Without the characters that it names, the text is readable or has nothing to say.
            try:
                front_end.normalise(readable)
            except TextError as second:
                assert second.reason_code == "no_speech"
        return
    sequence = front_end.to_phones(normalised)
    assert sum(sequence.word2ph) == len(sequence.phones) == len(sequence.tones)
    assert min(sequence.word2ph) >= 1 and set(sequence.phones) <= set(SYMBOLS)
    end = 0
    for word, (word_start, word_end) in zip(sequence.words, sequence.word_spans, strict=True):
        assert end <= word_start < word_end and normalised[word_start:word_end] == word
        assert not normalised[end:word_start].strip()
        end = word_end
    assert not normalised[end:].strip()


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=20))
def test_any_unnormalised_text_is_read_or_refused(text):
    try:
        sequence = get_front_end("JP").to_phones(text)
    except TextError:
        return
    assert sum(sequence.word2ph) == len(sequence.phones)
