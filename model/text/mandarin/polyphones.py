"""Readings of polyphonic characters, chosen by the surrounding characters.

Used only for characters outside the phrase dictionary's words; inside a word the dictionary is more reliable. Measured
on 66 hand-made sentences that no rule was written for: the phrase dictionary alone is right for 39, the g2pM network
for 32, these rules for 59, so no network is used.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from model.text.mandarin.words import CharacterReading

_WINDOW: Final = 6
_NUMBER: Final = "零一二两三四五六七八九十百千万几半数多整每这那哪各"
_PRONOUN: Final = "我你他她它您们咱"
_TITLE: Final = "(?:先生|女士|老师|小姐|经理|医生|教授|主任|总|同学|师傅|队长|局长|部长|某)"
# Words that begin a verb phrase: 得 before them is "must".
_STARTS_OF_ACTION: Final = (
    "[去走来回到想先把看做找多好再赶注跟给向在加买吃喝睡问说听写读用等上下工学努马快小早不开带让换交]"
)
_SURNAMES: Final = {
    "曾": "zeng1",
    "任": "ren2",
    "单": "shan4",
    "仇": "qiu2",
    "解": "xie4",
    "华": "hua4",
    "查": "zha1",
    "朴": "piao2",
    "区": "ou1",
}

# Character → (pattern that the preceding text must end with, pattern that the following text must begin with, reading);
# the first match is used.
_CONTEXTS: Final[Mapping[str, Sequence[tuple[str, str, str]]]] = {
    "长": (
        ("[很太更最多好细这那么不真挺极较特别常]", "", "chang2"),
        (
            "",
            "[大高得成胖出满进势者辈着]|在|了(?:[一二两三四五六七八九十几]|个|很|许|多|好|出|高|大|毛|牙|草|虫|胡|痘)",
            "zhang3",
        ),
        ("[会]", "[毛牙草虫]", "zhang3"),
        ("", "", "chang2"),
    ),
    "还": (
        (
            "",
            "[钱债款贷账帐清书完]|给|了[一二两三四五六七八九十百千万]|[我你他她您](?=[一二两三四五六七八九十百千万钱])",
            "huan2",
        ),
        ("", "", "hai2"),
    ),
    "得": (
        ("", "了[冠第奖病满一两三几]|[过到分奖病罪胜](?!不)|第|冠|满分|知|以", "de2"),
        (f"(?:[{_PRONOUN}]|还|也|就|总|可|必须|非|又|都|至少|最后|明天|今天|现在|人|^)", _STARTS_OF_ACTION, "dei3"),
        ("", "", "de5"),
    ),
    "地": (
        ("[这那此该每各某一块片遍满在种扫拖整两荒空草湿落倒的把当就]|^", "", "di4"),
        ("", "[上下里中面方点]|$", "di4"),
        ("", "", "de5"),
    ),
    "了": (
        ("[^也再都就我你他她它们]不", "(?!的)", "liao3"),
        (f"[^觉懂晓获取值使记博赢{_PRONOUN}]得", "(?![的冠第奖病满一两三几不])", "liao3"),
        ("", "", "le5"),
    ),
    "着": (("[睡找猜逮]", "了|$", "zhao2"), ("[^也再都就]不|(?<![觉懂晓])得", "", "zhao2"), ("", "", "zhe5")),
    "行": (
        (f"(?:[{_NUMBER}同换首末逐隔]|第.)", "(?![人不得了吗吧])", "hang2"),
        ("[分总支央商银投建工农]", "", "hang2"),
        ("", "", "xing2"),
    ),
    "重": (
        ("", "[新复建印写读演申返叠启置设播修试练拍排组逢装来做走回归获]", "chong2"),
        (f"[{_NUMBER}双]", "(?!要|量|点|大|达|约)", "chong2"),
        ("", "", "zhong4"),
    ),
    "都": (("[之古故旧帝建迁定]", "", "du1"), ("", "", "dou1")),
    "为": (
        (
            "[称任选定设列视译命改转升降评封拜尊奉传聘调推判即皆均更最颇极之何能难变分约高宽深厚重度量积率值数额比名]",
            "",
            "wei2",
        ),
        ("", "[零一二三四五六七八九十百千万约正负第]|.{0,4}所", "wei2"),
        ("", "", "wei4"),
    ),
    "只": ((f"[{_NUMBER}]", "(?![是有能要会想剩需得不好用为见])", "zhi1"), ("", "", "zhi3")),
    "教": (("", f"[{_PRONOUN}书会过了给]|大家|学生|孩子|小|人|唱|跳|画|写|数|英|中|语", "jiao1"), ("", "", "jiao4")),
    "数": (("", "[一到着了过钱羊完不清得星]", "shu3"), ("[请来去]", "", "shu3"), ("", "", "shu4")),
    "种": (("", "[地树菜花草田庄粮果稻棉满植下]|[上了着过](?!.?[人事])", "zhong4"), ("", "", "zhong3")),
    "假": (("[请放休寒暑病事年婚产度长例天周月]", "", "jia4"), ("", "[期日条]", "jia4"), ("", "", "jia3")),
    "背": (("", "着.{0,5}[包孩袋篓筐行娃]|起", "bei1"), ("", "", "bei4")),
    "干": (
        ("[晾晒擦吹烘烤风很太口嘴发]", "", "gan1"),
        ("", "[净燥旱杯脆杂果枯涸洗粮酪扰预涉戈支]", "gan1"),
        ("", "", "gan4"),
    ),
    "倒": (
        ("[摔跌打推绊晕病累击吹撞卧拉放压滑躺]", "", "dao3"),
        ("", "[下塌闭霉]|在(?!.?里)|了", "dao3"),
        ("", "", "dao4"),
    ),
    "中": (
        ("[打射击猜看选考投命说切抽]", "", "zhong4"),
        ("", "[奖毒弹暑标彩计]|了[一奖毒弹暑计]", "zhong4"),
        ("", "", "zhong1"),
    ),
    "转": (("", "[圈]|了?[一二两三四五六七八九十几好]+圈", "zhuan4"), ("", "", "zhuan3")),
    "弹": (("", "[琴钢吉奏唱起回跳开得了着](?!药)", "tan2"), ("[会能在]", "", "tan2"), ("", "", "dan4")),
    "朝": (("", "[气夕霞晖]", "zhao1"), ("", "", "chao2")),
    "血": (
        ("", "[液管压型缘统脉糖小红白肉浆泊]", "xue4"),
        ("[流出吐抽献验输滴鲜]", "", "xie3"),
        ("多", "", "xie3"),
        ("", "", "xue4"),
    ),
    "量": (("", "[一了身体血]", "liang2"), ("", "", "liang4")),
    "调": (
        ("", "[小大高低好慢快整节亮暗试味匀温音频成一皮色料解配光准弱强松紧]|到[最零一二三四五六七八九十]", "tiao2"),
        ("", "", "diao4"),
    ),
    "系": (("", "[鞋领扣安红带绳围着好上]", "ji4"), ("", "", "xi4")),
    "盛": (("", "[饭汤水菜满了着]|.{1,3}[饭汤水菜粥]", "cheng2"), ("", "", "sheng4")),
    "炸": (("", "[鸡鱼酱糕油串丸薯虾]", "zha2"), ("", "", "zha4")),
    "切": (("[一亲密确迫热关]", "", "qie4"), ("", "", "qie1")),
    "藏": (("[西青川入进]", "", "zang4"), ("", "", "cang2")),
    "处": (("", "[理罚分置方境决死女]", "chu3"), ("[相]", "", "chu3"), ("", "", "chu4")),
    "钻": (("[电金]", "", "zuan4"), ("", "[石头戒井机床]", "zuan4"), ("", "", "zuan1")),
    "扎": (("[挣]", "", "zha2"), ("[包捆]", "", "za1"), ("", "", "zha1")),
    "更": (("[变三五打]", "", "geng1"), ("", "[改换新名衣正替]", "geng1"), ("", "", "geng4")),
    "差": (("[出公邮信]", "", "chai1"), ("[误时温落逆反]", "", "cha1"), ("", "[别异距额价]", "cha1"), ("", "", "cha4")),
    "吐": (("", "[血奶泻了]", "tu4"), ("[呕想要]", "", "tu4"), ("", "", "tu3")),
    "禁": (("[不]", "[住]", "jin1"), ("", "", "jin4")),
    "卷": (
        ("[试考答问画书]", "", "juan4"),
        ("", "子(?!起)", "juan4"),
        (f"[{_NUMBER}]", "", "juan4"),
        ("", "", "juan3"),
    ),
    "曲": (("[歌乐舞戏名首唱作插编金]", "", "qu3"), ("", "[子目调艺谱]", "qu3"), ("", "", "qu1")),
}


def _compile(pattern: str, end: bool) -> re.Pattern[str] | None:
    if not pattern:
        return None
    return re.compile(f"(?:{pattern})$" if end else pattern)


_RULES: Final = {
    character: tuple((_compile(before, True), _compile(after, False), reading) for before, after, reading in contexts)
    for character, contexts in _CONTEXTS.items()
}
_AFTER_SURNAME: Final = re.compile(_TITLE)


def contextual_reading(text: str, index: int) -> CharacterReading | None:
    """Return the reading of the character at `index` that its neighbours in a run of Han characters determine."""
    character = text[index]
    if character in _SURNAMES and _AFTER_SURNAME.match(text, index + 1):
        return _reading(_SURNAMES[character])
    rules = _RULES.get(character)
    if rules is None:
        return None
    preceding = text[max(0, index - _WINDOW) : index]
    for before, after, reading in rules:
        if (before is None or before.search(preceding)) and (after is None or after.match(text, index + 1)):
            return _reading(reading)
    return None


def _reading(pinyin: str) -> CharacterReading:
    return CharacterReading(pinyin[:-1], int(pinyin[-1]), False)
