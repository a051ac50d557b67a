import string

import pytest

from model.text.errors import TextError
from model.text.japanese.numbers import integer_in_kanji, number_in_kanji
from model.text.registry import get_front_end


def normalise(text):
    return get_front_end("JP").normalise(text)


@pytest.mark.parametrize(
    ("number", "kanji"),
    [
        (0, "ゼロ"),
        (1, "一"),
        (10, "十"),
        (11, "十一"),
        (20, "二十"),
        (100, "百"),
        (108, "百八"),
        (999, "九百九十九"),
        (1000, "千"),
        (1200, "千二百"),
        (10_000, "一万"),
        (11_000, "一万千"),
        (1_000_000, "百万"),
        (10_000_000, "一千万"),
        (123_456_789, "一億二千三百四十五万六千七百八十九"),
        (10**12, "一兆"),
        (10**16 + 1, "一京一"),
    ],
)
def test_integer_is_written_in_kanji(number, kanji):
    assert integer_in_kanji(number) == kanji


def test_number_with_leading_zeros_or_too_many_digits_is_a_row_of_digits():
    assert number_in_kanji("007") == "零零七"
    assert number_in_kanji("1" * 21) == "一" * 21
    assert number_in_kanji("0.05") == "零点零五"


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("この料理は1,200円です。", "この料理は千二百円です."),
        ("1.5倍", "一点五倍"),
        ("2024年5月1日、水曜日", "二千二十四年五月一日,水曜日"),
        ("2024/5/1", "二千二十四年五月一日"),
        ("2024-12-25に", "二千二十四年十二月二十五日に"),
        ("12/25", "十二月二十五日"),
        ("5/1に会う", "五月一日に会う"),
        ("3/4の人", "四分の三の人"),
        ("½杯", "二分の一杯"),
        ("1½時間", "一と二分の一時間"),
        ("10:30に", "十時三十分に"),
        ("3:2で勝つ", "三対二で勝つ"),
        ("9:00", "九時"),
        ("03-1234-5678まで", "零三,一二三四,五六七八まで"),
        ("03ー1234ー5678", "零三,一二三四,五六七八"),
        ("(03)1234-5678", "零三,一二三四,五六七八"),
        ("090 1234 5678", "零九零,一二三四,五六七八"),
        ("+81-3-1234-5678", "プラス八一,三,一二三四,五六七八"),
        ("〒150-0002", "郵便番号,一五零,零零零二"),
        ("¥1,200と$5.5", "千二百円と五点五ドル"),
        ("$3億", "三億ドル"),
        ("5€", "五ユーロ"),
        ("-5℃", "マイナス五度"),
        ("10〜20%", "十から二十パーセント"),
        ("3～5日", "三から五日"),
        ("1-2-3", "一の二の三"),
        ("時速60km/h", "時速六十キロメートル毎時"),
        ("100m²", "百平方メートル"),
        ("5kgと300ml", "五キログラムと三百ミリリットル"),
        ("㌔㍍", "キロメートル"),
        ("1万2千人", "一万二千人"),
        ("第Ⅳ章", "第四章"),
        ("①②", "一 二"),
        ("１２３", "百二十三"),
        ("٣個", "三個"),
        ("No.5", "ナンバー五"),
        ("1.2.3", "一点二点三"),
        ("COVID-19", "COVID 十九"),
        ("iPhone 15 Proを", "iPhone fifteen Proを"),
        ("MP3で", "MP threeで"),
    ],
)
def test_number_is_written_as_it_is_spoken(written, spoken):
    assert normalise(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("「おはよう」と彼女は言った。", "おはようと彼女は言った."),
        ("えっ！？", "えっ?"),
        ("そう……ですか。。。", "そう…ですか…"),
        ("…うん、", "うん"),
        ("東京（日本）へ", "東京,日本,へ"),
        ("ジョン・スミス：主演", "ジョン,スミス,主演"),
        ("東京〜大阪", "東京から大阪"),
        ("ですよ〜！", "ですよー!"),
        ("それは——違う", "それは-違う"),
        ("お母さん　ビール", "お母さん ビール"),
        ("　東京 、大阪 。", "東京,大阪."),
        ("一行目\n二行目", "一行目 二行目"),
        ("ーーあ", "あ"),
        ("か\u200bな\ufeff", "かな"),
        ("ｶﾞｷﾞｸﾞ､ｶﾅ｡", "ガギグ,カナ."),
        ("ヷ", "ヴァ"),
        ("ㇰ", "ク"),
        ("㍿", "株式会社"),
        ("Don't stop!と叫ぶ", "Don't stop!と叫ぶ"),
        ("Dr.田中", "Doctor 田中"),
        ("A/Bテスト", "A,Bテスト"),
        ("caféで", "cafeで"),
        ("a@b.jpへ", "a at b dot jpへ"),
        ("犬&猫", "犬アンド猫"),
        ("2+3=5", "二プラス三イコール五"),
    ],
)
def test_marks_and_symbols_become_pauses_and_words(written, spoken):
    assert normalise(written) == spoken


def test_every_character_of_a_keyboard_is_spoken_a_pause_or_nothing():
    for character in string.printable:
        assert normalise(f"あ{character}い")


@pytest.mark.parametrize(
    ("text", "unreadable"),
    [
        ("楽しい😀ね☃️", "😀☃"),
        ("Привет、世界", "Привет"),
        ("안녕です", "안녕"),
        ("\udc80です\ufffd", "\udc80\ufffd"),
        ("\ue000と\U000f0000", "\ue000\U000f0000"),
        # The Arabic ligature becomes several characters, but it is the ligature that stands in the text.
        ("\ufdfaです", "\ufdfa"),
        ("1️⃣番", "\u20e3"),
        ("々", "々"),
        # Unassigned, yet among the kanji.
        ("♪と\U0002ffb9と亜", "♪\U0002ffb9"),
    ],
)
def test_every_unreadable_character_is_named_as_it_was_written(text, unreadable):
    with pytest.raises(TextError) as error:
        normalise(text)
    assert error.value.reason_code == "unreadable_character"
    assert sorted(error.value.characters) == sorted(unreadable)
    assert f"U+{ord(error.value.characters[0]):04X}" in error.value.detail


@pytest.mark.parametrize("text", ["", "   ", "。。。", "！？…", "「」", "\n\t\x00", "ー", "〜"])
def test_text_without_speech_is_refused(text):
    with pytest.raises(TextError, match="no_speech"):
        normalise(text)


def test_text_of_ten_thousand_characters_is_refused():
    with pytest.raises(TextError, match="too_long.*10000"):
        normalise("あ" * 10_000)


def test_normalised_text_stays_as_it_is():
    for text in ["今日は2024年5月1日、水曜日です。", "GPTを5分使う…", "えっ、Dr. Smithが？"]:
        assert normalise(normalise(text)) == normalise(text)
