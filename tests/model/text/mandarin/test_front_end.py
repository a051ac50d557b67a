"""Mandarin readings, tones and mixed text against sentences with known answers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.text.errors import TextError
from model.text.mandarin.front_end import MandarinFrontEnd
from model.text.mandarin.syllables import split_tone, syllable_phones
from model.text.registry import get_front_end
from model.text.symbols import MANDARIN_PHONES, PAUSE_MARKS, SYMBOLS


def sequence(text, lexicon=None):
    front_end = get_front_end("ZH", lexicon)
    return front_end.to_phones(front_end.normalise(text))


def readings(text, lexicon=None):
    """(phones, tone) a word."""
    result, start = [], 0
    spoken = sequence(text, lexicon)
    for count in spoken.word2ph:
        result.append((spoken.phones[start : start + count], spoken.tones[start]))
        start += count
    return result


def tones(text, lexicon=None):
    return "".join(str(tone) for _, tone in readings(text, lexicon))


@pytest.mark.parametrize(
    ("syllable", "phones"),
    [
        ("zhang", "zh ang"),
        ("shi", "sh ir"),
        ("si", "s i0"),
        ("qi", "q i"),
        ("yi", "y i"),
        ("wu", "w u"),
        ("yu", "y v"),
        ("ye", "y E"),
        ("yan", "y En"),
        ("yuan", "y van"),
        ("yue", "y ve"),
        ("yun", "y vn"),
        ("yong", "y ong"),
        ("you", "y ou"),
        ("wei", "w ei"),
        ("jue", "j ve"),
        ("quan", "q van"),
        ("xu", "x v"),
        ("lv", "l v"),
        ("lve", "l ve"),
        ("lu", "l u"),
        ("er", "EE er"),
        ("en", "EE en"),
        ("ai", "AA ai"),
        ("ou", "OO ou"),
        ("jiong", "j iong"),
        ("liu", "l iu"),
        ("gui", "g ui"),
        ("lun", "l un"),
        ("m", "m u"),
        ("ng", "EE en"),
    ],
)
def test_syllables_become_initial_and_final(syllable, phones):
    assert " ".join(syllable_phones(syllable)) == phones


@pytest.mark.parametrize("text", ["", "q", "bla", "zh", "ü", "xyz"])
def test_what_is_no_syllable_has_no_phones(text):
    assert syllable_phones(text) is None


def test_every_reading_of_the_dictionaries_has_phones_of_the_table():
    from pypinyin.constants import PHRASES_DICT, PINYIN_DICT

    marked = {readings.partition(",")[0] for readings in PINYIN_DICT.values()} | {
        one[0] for phrase in PHRASES_DICT.values() for one in phrase
    }
    for syllable in marked:
        letters, tone = split_tone(syllable)
        phones = syllable_phones(letters)
        assert phones and set(phones) <= MANDARIN_PHONES and 1 <= tone <= 5, syllable


@pytest.mark.parametrize(
    ("text", "character", "pinyin"),
    [
        ("银行行长来了", "长", "zhang"),
        ("他长大了", "长", "zhang"),
        ("这根绳子太长了", "长", "chang"),
        ("头发会越来越长", "长", "chang"),
        ("草地上长满了野花", "长", "zhang"),
        ("重庆很远", "重", "chong"),
        ("箱子太重了", "重", "zhong"),
        ("我们重来一次", "重", "chong"),
        ("他还没来", "还", "hai"),
        ("请把伞还给他", "还", "huan"),
        ("把钱还清", "还", "huan"),
        ("他跑得很快", "得", "de"),
        ("我得走了", "得", "dei"),
        ("他得了冠军", "得", "de"),
        ("慢慢地走", "地", "de"),
        ("这块地很大", "地", "di"),
        ("地上有水", "地", "di"),
        ("他吃了饭", "了", "le"),
        ("我忘不了你", "了", "liao"),
        ("你吃得了这么多吗", "了", "liao"),
        ("她笑着说", "着", "zhe"),
        ("我找不着钥匙", "着", "zhao"),
        ("不要着急", "着", "zhao"),
        ("我在银行上班", "行", "hang"),
        ("这样行吗", "行", "xing"),
        ("请排成两行", "行", "hang"),
        ("大家都同意", "都", "dou"),
        ("中国的首都", "都", "du"),
        ("妈妈教我做饭", "教", "jiao"),
        ("把空调调低一点", "低", "di"),
        ("给我盛一碗饭", "盛", "cheng"),
        ("曾先生来了", "曾", "zeng"),
        ("我曾去过", "曾", "ceng"),
        ("西藏很美", "藏", "zang"),
        ("请系好安全带", "系", "ji"),
        ("她在弹吉他", "弹", "tan"),
        ("参差不齐", "参", "cen"),
        ("快乐的音乐", "乐", "le"),
        ("朝鲜", "朝", "chao"),
        ("便宜", "便", "pian"),
        ("长沙", "长", "chang"),
        ("厦门", "厦", "xia"),
        ("龟兹", "龟", "qiu"),
        ("会计", "会", "kuai"),
        ("銀行行長", "長", "zhang"),
        ("睡覺", "覺", "jiao"),
    ],
)
def test_characters_with_several_readings(text, character, pinyin):
    assert readings(text)[text.index(character)][0] == syllable_phones(pinyin)


@pytest.mark.parametrize(
    ("text", "index", "pinyin"),
    [
        ("妈妈教我做饭", 2, "jiao1"),
        ("教室很大", 0, "jiao4"),
        ("他数了数钱", 1, "shu3"),
        ("数学很难", 0, "shu4"),
        ("农民在种菜", 3, "zhong4"),
        ("种子发芽了", 0, "zhong3"),
        ("他请了三天假", 5, "jia4"),
        ("真假难分", 1, "jia3"),
        ("为人民服务", 0, "wei4"),
        ("他被称为天才", 3, "wei2"),
        ("为什么", 0, "wei4"),
        ("三只猫", 1, "zhi1"),
        ("只要有钱", 0, "zhi3"),
        ("把头发吹干", 4, "gan1"),
        ("你在干什么", 2, "gan4"),
        ("他不小心摔倒了", 5, "dao3"),
        ("给客人倒茶", 3, "dao4"),
        ("他猜中了答案", 2, "zhong4"),
        ("他背着孩子", 1, "bei1"),
        ("背后有人", 0, "bei4"),
        ("任老师在吗", 0, "ren2"),
        ("我在任何地方", 2, "ren4"),
        ("转了一圈", 0, "zhuan4"),
        ("转身走了", 0, "zhuan3"),
        ("请帮我量一下", 3, "liang2"),
        ("少年强", 0, "shao4"),
        ("尽力", 0, "jin4"),
        ("爱好", 1, "hao4"),
        ("反应", 1, "ying4"),
    ],
)
def test_readings_that_differ_in_tone_only(text, index, pinyin):
    assert readings(text)[index] == (syllable_phones(pinyin[:-1]), int(pinyin[-1]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # 一
        ("一个人", "252"),
        ("适合一个人", "42252"),
        ("合一", "21"),
        ("一天", "41"),
        ("一年", "42"),
        ("一起", "43"),
        ("一样", "24"),
        ("第一次", "414"),
        ("统一", "31"),
        ("星期一", "111"),
        ("一二三", "141"),
        ("看一看", "454"),
        ("说一说", "151"),
        ("一闪一闪", "4343"),
        ("一百一十一", "43121"),
        ("二十一个", "4215"),
        ("一月一日", "1414"),
        ("三点一四", "1314"),
        ("三点一刻", "1324"),
        ("十一点", "213"),
        ("一楼", "12"),
        ("打一一零", "3112"),
        # 不
        ("不要", "24"),
        ("不好", "43"),
        ("不来", "42"),
        ("不是不会", "2424"),
        ("好不好", "353"),
        ("是不是", "454"),
        ("对不起", "453"),
        ("差不多", "451"),
        ("听不懂", "153"),
        ("我不懂", "343"),
        ("不一样", "424"),
        # third tones
        ("你好", "23"),
        ("老李给我买了", "223235"),
        ("展览馆", "223"),
        ("纸老虎", "323"),
        ("水彩画", "234"),
        ("我很想你", "2323"),
        ("可以走", "223"),
        ("好喜欢", "235"),
        ("小鸟", "23"),
        ("我没有伞", "3223"),
        ("在机场等", "4133"),
        ("我也想买水", "23323"),
        ("总统府", "223"),
        # neutral
        ("妈妈", "15"),
        ("姐姐", "35"),
        ("想想", "25"),
        ("看看书", "451"),
        ("散散步", "454"),
        ("洗洗手", "253"),
        ("试试看", "454"),
        ("人人", "22"),
        ("天天", "11"),
        ("漂亮", "45"),
        ("我们的", "355"),
        ("桌子", "15"),
        ("电子", "43"),
        ("男子", "23"),
        ("子弹", "34"),
        ("石头", "25"),
        ("天上", "15"),
        ("以上", "34"),
        ("起来", "35"),
        ("回来", "25"),
        ("出去", "15"),
        ("女朋友", "325"),
        ("这个", "45"),
        ("三个人", "152"),
        ("个人", "42"),
        ("好吧", "35"),
        ("是啊", "45"),
        ("什么", "25"),
        ("头发", "25"),
        ("衣服", "15"),
    ],
)
def test_tones_as_spoken(text, expected):
    assert tones(text) == expected


def test_retroflex_ending_is_a_syllable_of_its_own():
    assert readings("花儿")[1] == (("EE", "er"), 2)


def test_a_pause_separates_third_tones():
    assert tones("你，好") == "303"


def test_each_character_is_a_word_whose_phones_both_carry_its_tone():
    spoken = sequence("你好，世界！")
    assert spoken.words == ("你", "好", ",", "世", "界", "!")
    assert spoken.word_spans == tuple((index, index + 1) for index in range(6))
    assert spoken.word2ph == (2, 2, 1, 2, 2, 1)
    assert spoken.phones == ("n", "i", "h", "ao", ",", "sh", "ir", "j", "ie", "!")
    assert spoken.tones == (2, 2, 3, 3, 0, 4, 4, 4, 4, 0)
    assert spoken.languages == ("ZH",) * 6


def test_latin_words_are_english_with_their_own_phones_tones_and_spans():
    text = "我喜欢Hello, world和你"
    spoken = sequence(text)
    english = get_front_end("EN").to_phones("Hello, world")
    assert spoken.words == ("我", "喜", "欢", "Hello", ",", "world", "和", "你")
    assert spoken.languages == ("ZH",) * 3 + ("EN",) * 3 + ("ZH",) * 2
    assert spoken.phones[6 : 6 + len(english.phones)] == english.phones
    assert spoken.tones[6 : 6 + len(english.tones)] == english.tones
    assert [text[start:end] for start, end in spoken.word_spans] == list(spoken.words)


def test_two_capitals_are_letters():
    spoken = sequence("AI技术")
    assert spoken.phones[:3] == ("ey", "ay", "j") and spoken.words[:2] == ("A", "I")


def test_kana_are_japanese():
    spoken = sequence("他叫ピカチュウ吗")
    japanese = get_front_end("JP").to_phones("ピカチュウ")
    assert spoken.languages[:2] == ("ZH", "ZH") and spoken.languages[-1] == "ZH"
    assert set(spoken.languages[2:-1]) == {"JP"}
    assert spoken.phones[4:-2] == japanese.phones


def test_lexicon_overrides_words_and_is_taken_as_written():
    lexicon = {"重庆": "zhong4 qing1", "你好": "ni3 hao3", "銀行": ["yin2", "xing2"]}
    assert readings("去重庆", lexicon)[1:] == [(("zh", "ong"), 4), (("q", "ing"), 1)]
    assert tones("你好", lexicon) == "33"
    assert readings("銀行", lexicon)[1][0] == readings("银行", lexicon)[1][0] == ("x", "ing")
    assert readings("去重庆")[1] == (("ch", "ong"), 2)


@pytest.mark.parametrize(
    "reading", ["chong2", "chong2 qing", "chong2 qing6", "chong2 qqing4", "chong2 qing4 qing4", ""]
)
def test_lexicon_readings_that_do_not_fit_are_refused(reading):
    with pytest.raises(TextError) as caught:
        MandarinFrontEnd(get_front_end, {"重庆": reading})
    assert caught.value.reason_code == "invalid_lexicon" and "重庆" in caught.value.detail


def test_to_phones_refuses_what_was_not_normalised():
    with pytest.raises(TextError) as caught:
        get_front_end("ZH").to_phones("有3个%")
    assert (caught.value.reason_code, caught.value.characters) == ("unreadable_character", "3%")
    with pytest.raises(TextError) as caught:
        get_front_end("ZH").to_phones(",.")
    assert caught.value.reason_code == "no_speech"


def test_threads_share_a_front_end():
    texts = [f"第{number}次，我们在银行等了{number}个小时。" for number in range(1, 41)]
    alone = [sequence(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(sequence, texts)) == alone


CHINESE = st.text(
    st.sampled_from(
        "的一是不了我有个人这上中大来到地得着还长重行都为子儿们第二三十百千万亿点零两几年月日号时分元"
        "，。！？、：；“”…—（）0123456789.-~/%％:,¥$℃ km²AIGPTabc'々〇銀長かなカッーゝ\n"
    )
)
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check_reads_or_refuses(text):
    front_end = get_front_end("ZH")
    try:
        normalised = front_end.normalise(text)
        spoken = front_end.to_phones(normalised)
    except TextError as error:
        assert error.reason_code in ("no_speech", "unreadable_character")
        return
    assert sum(spoken.word2ph) == len(spoken.phones) == len(spoken.tones)
    assert len(spoken.words) == len(spoken.word_spans) == len(spoken.word2ph) == len(spoken.languages)
    assert all(phone in SYMBOLS for phone in spoken.phones)
    ends = [0, *(end for _, end in spoken.word_spans)]
    assert all(start >= before and end > start for before, (start, end) in zip(ends, spoken.word_spans, strict=False))
    assert ends[-1] <= len(normalised)
    assert not any(character.isdigit() for character in normalised)


@given(CHINESE)
@SETTINGS
def test_any_line_of_common_characters_is_read_or_refused_with_a_reason(text):
    check_reads_or_refuses(text)


@given(st.text(max_size=60))
@SETTINGS
def test_any_unicode_text_is_read_or_refused_with_a_reason(text):
    check_reads_or_refuses(text)


@given(st.text(st.characters(min_codepoint=0x3400, max_codepoint=0x9FFF), min_size=1, max_size=30))
@SETTINGS
def test_any_ideographs_are_read_or_refused_with_a_reason(text):
    check_reads_or_refuses(text)


def test_unreadable_characters_can_be_dropped_by_the_list_of_them():
    text = "你好😀世界☃"
    with pytest.raises(TextError) as caught:
        get_front_end("ZH").normalise(text)
    left = "".join(character for character in text if character not in caught.value.characters)
    assert get_front_end("ZH").normalise(left) == "你好世界"


def test_marks_are_the_only_words_without_a_tone():
    spoken = sequence("“好”，他说：“是吗？”")
    for word, tone in zip(
        spoken.words, (spoken.tones[sum(spoken.word2ph[:index])] for index in range(len(spoken.words))), strict=True
    ):
        assert (tone == 0) == (word in PAUSE_MARKS)
