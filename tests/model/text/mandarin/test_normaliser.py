"""Written Mandarin to spoken Mandarin."""

import pytest

from model.text.errors import TextError
from model.text.registry import get_front_end


def normalise(text):
    return get_front_end("ZH").normalise(text)


def check(written, spoken):
    assert normalise(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("我的手机号码是13800138000", "我的手机号码是一三八零零一三八零零零"),
        ("手机138 0013 8000", "手机一三八零零一三八零零零"),
        ("电话：010-62345678", "电话,零一零六二三四五六七八"),
        ("请拨打400-820-8820", "请拨打四零零八二零八八二零"),
        ("+86 138-0013-8000", "加八六一三八零零一三八零零零"),
        ("打110报警", "打一一零报警"),
        ("客服电话10086", "客服电话一零零八六"),
        ("拨打12345热线", "拨打一二三四五热线"),
        ("邮编100084", "邮编一零零零八四"),
        ("验证码是8848", "验证码是八八四八"),
        ("产品编号007", "产品编号零零七"),
    ],
)
def test_telephone_numbers_and_codes_are_read_digit_by_digit(written, spoken):
    check(written, spoken)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("上午10:30出发", "上午十点三十分出发"),
        ("2:05的火车", "两点零五分的火车"),
        ("下午3:00见", "下午三点见"),
        ("8:05 AM起床", "上午八点零五分起床"),
        ("10:30-11:30开会", "十点三十分到十一点三十分开会"),
        ("20:15:30开始", "二十点十五分三十秒开始"),
        ("2点30分", "两点三十分"),
        ("上午八点10分", "上午八点十分"),
    ],
)
def test_times(written, spoken):
    check(written, spoken)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("今天是2024年5月1日", "今天是二千零二十四年五月一日"),
        ("2024-05-01开会", "二零二四年五月一日开会"),
        ("2024/5/1开会", "二零二四年五月一日开会"),
        ("2024.12.31开会", "二零二四年十二月三十一日开会"),
        ("2月2日", "二月二日"),
        ("1980年代", "一九八零年代"),
        ("90后", "九零后"),
        ("5月1日-3日放假", "五月一日到三日放假"),
        ("二〇二四年", "二零二四年"),
    ],
)
def test_dates_and_years(written, spoken):
    check(written, spoken)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("1,200元", "一千二百元"),
        ("１，２００元", "一千二百元"),
        ("1,234,567.89", "一百二十三万四千五百六十七点八九"),
        ("1.5倍", "一点五倍"),
        ("１．５倍", "一点五倍"),
        ("0.05", "零点零五"),
        ("10086个人", "一万零八十六个人"),
        ("一共100000000", "一共一亿"),
        ("12345678901234567890", "一二三四五六七八九零一二三四五六七八九零"),
        ("3万5千人", "三万五千人"),
        ("3/4的人", "四分之三的人"),
        ("1½杯水", "一又二分之一杯水"),
        ("比分3:2", "比分三比二"),
        ("比例是1:100", "比例是一比一百"),
        ("以3-1获胜", "以三比一获胜"),
        ("5~10人", "五到十人"),
        ("第3-5章", "第三到五章"),
        ("1+1=2", "一加一等于二"),
        ("5-3=2", "五减三等于二"),
        ("结果是-7", "结果是负七"),
        ("①②③", "一二三"),
        ("第Ⅲ章", "第三章"),
        ("192.168.1.1", "一九二点一六八点一点一"),
    ],
)
def test_quantities_fractions_ratios_ranges_and_sums(written, spoken):
    check(written, spoken)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("涨了3%", "涨了百分之三"),
        ("涨了３．５％", "涨了百分之三点五"),
        ("5%-10%的人", "百分之五到百分之十的人"),
        ("气温-5℃", "气温零下五摄氏度"),
        ("-5~10℃", "零下五到十摄氏度"),
        ("体温36.5°C", "体温三十六点五摄氏度"),
        ("¥35.5", "三十五点五元"),
        ("$20", "二十美元"),
        ("$3.5万", "三点五万美元"),
        ("￥100-200元", "一百到二百元"),
        ("50元/天", "五十元每天"),
        ("100kg苹果", "一百公斤苹果"),
        ("跑了5km", "跑了五公里"),
        ("80km/h", "八十公里每小时"),
        ("5㎡", "五平方米"),
        ("120m²", "一百二十平方米"),
    ],
)
def test_percentages_temperatures_money_and_measures(written, spoken):
    check(written, spoken)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("2个苹果", "两个苹果"),
        ("2位老师", "两位老师"),
        ("2年", "两年"),
        ("12个", "十二个"),
        ("102个", "一百零二个"),
        ("第2名", "第二名"),
        ("2楼", "二楼"),
        ("2年级", "二年级"),
        ("零下2度", "零下二度"),
    ],
)
def test_two_is_counted_as_liang_and_ordered_as_er(written, spoken):
    check(written, spoken)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("A4纸", "A四纸"),
        ("G1234次列车", "G一二三四次列车"),
        ("GPT-4很强", "GPT四很强"),
        ("AI技术", "A I技术"),
        ("我喜欢machine learning", "我喜欢machine learning"),
        ("他说I have 3 apples然后走了", "他说I have three apples然后走了"),
        ("Dr. Wang来了", "Doctor Wang来了"),
        ("Ｈｅｌｌｏ世界", "Hello世界"),
        ("café很贵", "cafe很贵"),
    ],
)
def test_latin_words_stay_and_their_digits_are_mandarin(written, spoken):
    check(written, spoken)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("小明、小红；小刚：好。", "小明,小红,小刚,好."),
        ("“你好”（他说）", "'你好''他说'"),
        ("好……是——的", "好……是--的"),
        ("好...", "好…"),
        ("《红楼梦》·曹雪芹", "'红楼梦',曹雪芹"),
        ("你好 世界", "你好世界"),
        ("第一行\n第二行\r\n", "第一行,第二行"),
        ("第一行。\n第二行", "第一行.第二行"),
        ("嗯，好", "恩,好"),
        ("男/女", "男,女"),
        ("你\x00好\u200b吗", "你好吗"),
        ("ｶﾞｷﾞ你", "ガギ你"),
        ("人々", "人人"),
    ],
)
def test_marks_spaces_and_forms(written, spoken):
    check(written, spoken)


def test_all_unreadable_characters_are_named_once_in_order():
    with pytest.raises(TextError, match=r"U\+2603 SNOWMAN") as caught:
        normalise("☃你😀好☃П兙\ud800")
    assert (caught.value.reason_code, caught.value.characters) == ("unreadable_character", "☃😀П兙\ud800")


@pytest.mark.parametrize("text", ["", " \n", "。。！", "“”", "\u200b\x00", "##"])
def test_text_without_words_is_no_speech(text):
    with pytest.raises(TextError) as caught:
        normalise(text)
    assert caught.value.reason_code == "no_speech"


def test_long_text_is_refused_by_its_length():
    assert normalise("好" * 5000)
    with pytest.raises(TextError) as caught:
        normalise("好" * 5001)
    assert caught.value.reason_code == "too_long"
