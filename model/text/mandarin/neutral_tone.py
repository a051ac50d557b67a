"""Mandarin syllables with neutral tone: suffixes, particles, reduplications, and listed words."""

from collections.abc import Sequence
from typing import Final

from model.text.mandarin.words import FULL_ZI_WORDS, Word
from model.text.word_lists import as_words

# Two-syllable words whose second syllable is neutral in the standard language, alone and at the end of longer words.
_NEUTRAL_WORDS: Final = as_words(
    """
    爸爸 妈妈 爷爷 奶奶 哥哥 姐姐 弟弟 妹妹 叔叔 伯伯 舅舅 姑姑 婆婆 公公 太太 星星 宝宝 娃娃 猩猩 蛐蛐 蝈蝈 饽饽 姥姥
    嫂嫂 婶婶 谢谢 先生 学生 朋友 丈夫 妻子 媳妇 亲戚 师傅 徒弟 亲家 大夫 护士 裁缝 木匠 铁匠 石匠 和尚 皇上 状元 秀才
    老婆 丫头 姑娘 闺女 娘家 婆家 伙计 掌柜 老爷 少爷 祖宗 眼睛 耳朵 鼻子 嘴巴 头发 眉毛 胳膊 巴掌 指头 指甲 骨头 舌头
    拳头 屁股 脊梁 脑袋 下巴 胡子 尾巴 翅膀 太阳 月亮 云彩 石头 木头 砖头 枕头 馒头 罐头 锄头 念头 苗头 码头 跟头 前头
    后头 里头 外头 上头 下头 日头 甜头 风头 势头 衣服 衣裳 裤子 被子 帽子 窗户 玻璃 扫帚 笤帚 簸箕 钥匙 算盘 灯笼 喇叭
    风筝 火候 家伙 东西 玩意 行李 包袱 铺盖 招牌 牌楼 牲口 帐篷 西瓜 黄瓜 葡萄 石榴 核桃 萝卜 豆腐 粮食 烧饼 点心 芝麻
    高粱 棉花 庄稼 蘑菇 荸荠 柴火 苍蝇 蚂蚱 狐狸 骆驼 刺猬 蛤蟆 喜鹊 跳蚤 牡丹 名字 名堂 意思 事情 消息 时候 地方 生意
    买卖 工夫 功夫 故事 笑话 道理 规矩 关系 比方 办法 本事 学问 知识 精神 力气 脾气 运气 福气 客气 和气 小气 阔气 口气
    毛病 动静 动弹 交情 人家 自在 岁数 日子 样子 位置 部分 行当 差事 官司 债主 主意 见识 记性 心思 兴头 热闹 味道 滋味
    颜色 称呼 合同 漂亮 聪明 糊涂 老实 厉害 勤快 清楚 明白 干净 结实 仔细 细致 热和 暖和 凉快 舒服 难受 快活 便宜 麻烦
    马虎 含糊 模糊 迷糊 利索 利落 麻利 痛快 爽快 大方 体面 踏实 扎实 牢靠 机灵 伶俐 活泼 斯文 秀气 娇气 傻气 稀罕 新鲜
    宽敞 亮堂 匀称 富裕 寡妇 冤枉 委屈 窝囊 拖沓 别扭 邋遢 疙瘩 认识 认得 记得 晓得 懂得 觉得 喜欢 告诉 打听 打算 打扮
    打发 打量 打点 答应 招呼 照应 商量 咳嗽 吆喝 应酬 应付 收拾 拾掇 折腾 琢磨 溜达 转悠 磨蹭 念叨 唠叨 嘟囔 嘀咕 埋怨
    抱怨 使唤 伺候 侍候 报酬 休息 消停 张罗 提防 对付 凑合 将就 教训 欺负 糟蹋 糟踏 耽误 耽搁 惦记 佩服 摆布 摆设 挖苦
    合计 哆嗦 吓唬 哈欠 喷嚏 困难 早上 晚上 出息 财主 爱人 主人 街坊 皮实 能耐 相声 胭脂 首饰 戒指 篱笆 栅栏 口袋 世故
    门道 多么 怎么 什么 这么 那么 要么 我们 咱们 似的 好处 坏处 用处 难处 害处
    """
)
_PARTICLES: Final = frozenset("吧呢啊嘛吗啦呀哇呗哪哟喽咯啰噢")
_LINKING: Final = frozenset("的了着们么")
_PLACES: Final = frozenset("上下里")
_NOT_A_PLACE: Final = frozenset("以之向往朝北南皇主至陛阁殿")
_WAYS: Final = frozenset("上下进出回过起开")
_COUNTING: Final = frozenset("零一二两三四五六七八九十百千万亿几有半多各整每做是这那哪某")
TRIED_VERBS: Final = frozenset("看听说想试走问坐聊谈学写读洗玩尝找算摸猜练查等散跑逛唱跳")
_TIMES_OVER: Final = frozenset("人天年月日家处事时刻代层步样件个种句字声次片条点夜岁滴颗")


def neutral_positions(words: Sequence[Word], text: str) -> set[int]:
    """Return the indices of the neutral syllables in `text`, the concatenated words."""
    positions: set[int] = set()
    start = 0
    for number, word in enumerate(words):
        end = start + len(word.text)
        if not word.in_user_lexicon and not _means_past(word.text, text, start, end):
            if word.text[-2:] in _NEUTRAL_WORDS or (len(word.text) > 1 and _has_neutral_ending(word)):
                positions.add(end - 1)
            if len(word.text) > 1:
                positions.update(start + index for index in _neutral_inside(word))
            if _repeats_verb(words, number):
                positions.add(start)
            if len(word.text) == 1 and _is_neutral_alone(words, number, text, start):
                positions.add(start)
        start = end
    return positions


def _means_past(word: str, text: str, start: int, end: int) -> bool:
    """Return whether 过去 means the past, with full tones, rather than "over there"."""
    return word == "过去" and (
        text[max(0, start - 1) : start] in ("在", "从") or text[end : end + 1] in ("的", "几", "十", "一", "两", "三")
    )


def _has_neutral_ending(word: Word) -> bool:
    last, before = word.text[-1], word.text[-2]
    if last == "子":
        return word.text[-2:] not in FULL_ZI_WORDS and word.tag[:1] in ("n", "r", "") and len(word.text) < 4
    if last in _PLACES:
        return word.tag[:1] in ("s", "f", "l", "t") and before not in _NOT_A_PLACE and len(word.text) < 4
    if last in "来去":
        return before in _WAYS and len(word.text) < 4
    return last in "们么"


def _neutral_inside(word: Word) -> list[int]:
    text = word.text
    if len(text) == 2 and text[0] == text[1] and _is_neutral_reduplication(text[0], word.tag):
        return [1]
    if len(text) == 3 and text[0] == text[1] and text[0] in TRIED_VERBS:
        return [1]
    if "个" not in text:
        return []
    return [
        index
        for index in range(1, len(text))
        if text[index] == "个" and text[index - 1] in _COUNTING and text[index : index + 2] != "个人"
    ]


def _is_neutral_reduplication(character: str, tag: str) -> bool:
    """Return whether the second syllable of a reduplication is neutral: verbs (看看) and names for people and things
    (妈妈), but not "every" (人人, 天天) nor manner (慢慢).
    """
    return tag[:1] in ("v", "n") and character not in _TIMES_OVER


def _is_neutral_alone(words: Sequence[Word], number: int, text: str, start: int) -> bool:
    character = words[number].text
    if character in _PARTICLES or character in _LINKING:
        return start > 0 and not words[number].readings[0].certain
    if character == "个":
        return start > 0 and text[start - 1] in _COUNTING
    return False


def _repeats_verb(words: Sequence[Word], number: int) -> bool:
    """Return whether a word begins with the verb that precedes it as a separate word: 看|看, 散|散步."""
    before = words[number - 1] if number else None
    if before is None or len(before.text) > 1 or before.text != words[number].text[0]:
        return False
    return (before.tag[:1] == "v" or before.text in TRIED_VERBS) and before.text not in _TIMES_OVER
