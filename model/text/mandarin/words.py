"""Mandarin word segmentation and dictionary readings."""

import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Final

from model.text.errors import ReasonCode, TextError
from model.text.mandarin.syllables import split_tone, syllable_phones
from model.text.word_lists import as_words

if TYPE_CHECKING:
    from jieba import Tokenizer
    from kaldifst import TextNormalizer

_MAX_PHRASE: Final = 10
# Words that the phrase dictionary reads wrongly or lacks and whose characters alone would mislead.
_PHRASES: Final[Mapping[str, str]] = {
    "大夫": "dai4 fu5",
    "数一数": "shu3 yi1 shu3",
    "数数": "shu3 shu4",
    "朝阳区": "chao2 yang2 qu1",
    "卷子": "juan4 zi5",
    "好处": "hao3 chu5",
    "坏处": "huai4 chu5",
    "难处": "nan2 chu5",
    "用处": "yong4 chu5",
    "害处": "hai4 chu5",
    "好好": "hao3 hao3",
    "空着": "kong4 zhe5",
    "着实": "zhuo2 shi2",
    "一宿": "yi4 xiu3",
    "长得": "zhang3 de5",
    "觉得": "jue2 de5",
    "还款": "huan2 kuan3",
    "还书": "huan2 shu1",
    "还钱": "huan2 qian2",
    "还债": "huan2 zhai4",
    "重温": "chong2 wen1",
    "重启": "chong2 qi3",
    "重做": "chong2 zuo4",
    "重来": "chong2 lai2",
    "请假": "qing3 jia4",
    "放假": "fang4 jia4",
    "调成": "tiao2 cheng2",
    "调高": "tiao2 gao1",
    "地儿": "di4 er5",
    "调低": "tiao2 di1",
    "看中": "kan4 zhong4",
    "了了": "liao3 le5",
    "的士": "di1 shi4",
    "打的": "da3 di1",
    "似的": "shi4 de5",
    "有着": "you3 zhe5",
    "那么着": "na4 me5 zhe5",
    "这么着": "zhe4 me5 zhe5",
    "睡着": "shui4 zhao2",
}


# Words in which 子 is a root with third tone; in all others it is a neutral suffix.
FULL_ZI_WORDS: Final = as_words(
    """
    男子 女子 王子 公子 太子 天子 君子 才子 弟子 父子 母子 孔子 孟子 老子 庄子 荀子 墨子 孝子 游子 学子 浪子 赤子 皇子
    长子 次子 独子 电子 原子 分子 粒子 量子 质子 中子 光子 离子 因子 核子 莲子 瓜子 棋子 石子 鱼子 精子 卵子 孢子 亲子
    臣子 义子 养子 逆子 世子 童子 仙子 妃子 骄子 诸子 夫子 孺子 龙子
    """
)
# Entries of the phrase dictionary that fit only one meaning: their characters are read by context.
_AMBIGUOUS_PHRASES: Final = frozenset({"一行", "两行", "行行"})
# Characters whose first dictionary reading is not their reading as a lone character.
_CHARACTERS: Final = {
    "呀": ("ya", 5),
    "儿": ("er", 2),
    "呗": ("bei", 5),
    "咱": ("zan", 2),
    "为": ("wei", 4),
    "切": ("qie", 1),
    "哦": ("o", 4),
}


@dataclass(frozen=True, slots=True)
class CharacterReading:
    """Reading of one character. certain: given for the word by a dictionary entry or a person, so context must not
    change it.
    """

    syllable: str
    tone: int
    certain: bool


@dataclass(frozen=True, slots=True)
class Word:
    """Word in simplified characters.

    tag: part of speech in jieba's letters, "" if unknown. binds_right: of three characters, the last two are the closer
    pair (小|老虎, against 展览|馆). in_user_lexicon: the readings come from the user lexicon.
    """

    text: str
    tag: str
    readings: tuple[CharacterReading, ...]
    binds_right: bool = False
    in_user_lexicon: bool = False


class WordReader:
    """Segmentation by jieba and readings by pypinyin's phrase and character dictionaries; the user lexicon overrides
    both.

    The dictionaries are loaded once, on creation. Words found by jieba's hidden Markov model (names) count as words.
    """

    def __init__(self, lexicon: Mapping[str, Sequence[str] | str] | None = None) -> None:
        """Create a reader. lexicon: word → pinyin with tone digits, one syllable per character.

        Raises TextError invalid_lexicon.
        """
        from pypinyin.constants import PHRASES_DICT, PINYIN_DICT

        self._phrases: Mapping[str, list[list[str]]] = PHRASES_DICT
        self._characters: Mapping[int, str] = PINYIN_DICT
        self._tokenizer, self._tags = _load_segmenter()
        self._lexicon = {simplified(word): _user_word(word, reading) for word, reading in (lexicon or {}).items()}
        self._longest_entry = max(map(len, self._lexicon), default=0)
        self.has_reading = lru_cache(maxsize=65536)(self._has_reading)
        self._word = lru_cache(maxsize=65536)(self._look_up)

    def _has_reading(self, character: str) -> bool:
        """Return whether a Han character is in the dictionary with a syllable that the symbol table has."""
        marked = self._characters.get(ord(character), "")
        return bool(marked) and syllable_phones(split_tone(marked.partition(",")[0])[0]) is not None

    def words(self, text: str) -> list[Word]:
        """Return the words of a run of simplified Han characters, in order and without gaps. Raises TextError
        unreadable_character.
        """
        if not self._lexicon:
            return self._segment(text)
        words, start, position = [], 0, 0
        while position < len(text):
            entry = self._entry_at(text, position)
            if entry is None:
                position += 1
                continue
            words += [*self._segment(text[start:position]), entry]
            start = position = position + len(entry.text)
        return [*words, *self._segment(text[start:])]

    def _entry_at(self, text: str, position: int) -> Word | None:
        for length in range(min(self._longest_entry, len(text) - position), 0, -1):
            entry = self._lexicon.get(text[position : position + length])
            if entry is not None:
                return entry
        return None

    def _segment(self, text: str) -> list[Word]:
        if not text:
            return []
        return [self._word(piece) for piece in self._tokenizer.cut(text)]

    def _look_up(self, word: str) -> Word:
        frequencies = self._tokenizer.FREQ
        binds_right = len(word) == 3 and frequencies.get(word[1:], 0) > frequencies.get(word[:2], 0)
        return Word(word, self._tags.get(word, ""), self._readings(word), binds_right)

    def _readings(self, word: str) -> tuple[CharacterReading, ...]:
        """Return the readings by the longest phrases from the left; a character outside all phrases has its most
        frequent one.
        """
        if len(word) == 1:
            return (self._character_reading(word),)
        readings: list[CharacterReading] = []
        position = 0
        while position < len(word):
            length = min(_MAX_PHRASE, len(word) - position)
            while length > 1 and not self._has_phrase(word[position : position + length]):
                length -= 1
            piece = word[position : position + length]
            readings += self._phrase_readings(piece) if length > 1 else [self._character_reading(piece)]
            position += length
        for index, character in enumerate(word):
            if character == "子" and (index == 0 or word[index - 1 : index + 1] in FULL_ZI_WORDS):
                readings[index] = CharacterReading("zi", 3, True)
        return tuple(readings)

    def _has_phrase(self, piece: str) -> bool:
        return piece in _PHRASES or (piece in self._phrases and piece not in _AMBIGUOUS_PHRASES)

    def _phrase_readings(self, piece: str) -> list[CharacterReading]:
        if piece in _PHRASES:
            return [CharacterReading(syllable[:-1], int(syllable[-1]), True) for syllable in _PHRASES[piece].split()]
        return [_certain_reading(readings[0]) for readings in self._phrases[piece]]

    def _character_reading(self, character: str) -> CharacterReading:
        if character in _CHARACTERS:
            return CharacterReading(*_CHARACTERS[character], False)
        marked = self._characters.get(ord(character))
        if marked is None:
            raise TextError(
                ReasonCode.UNREADABLE_CHARACTER,
                f"{character!r} (U+{ord(character):04X}) has no Mandarin reading",
                character,
            )
        return CharacterReading(*split_tone(marked.partition(",")[0]), False)


@lru_cache(maxsize=4096)
def _certain_reading(marked: str) -> CharacterReading:
    return CharacterReading(*split_tone(marked), True)


def _user_word(word: str, reading: Sequence[str] | str) -> Word:
    syllables = reading.split() if isinstance(reading, str) else list(reading)
    if len(syllables) != len(word) or not word:
        raise TextError(ReasonCode.INVALID_LEXICON, f"{word!r}: {len(syllables)} syllables for {len(word)} characters")
    readings = []
    for syllable in syllables:
        letters = syllable[:-1].lower().replace("u:", "v").replace("ü", "v")
        if syllable[-1:] not in tuple("12345") or syllable_phones(letters) is None:
            raise TextError(
                ReasonCode.INVALID_LEXICON,
                f'{word!r}: {syllable!r} is not pinyin with a tone digit 1 to 5 ("chong2 qing4")',
            )
        readings.append(CharacterReading(letters, int(syllable[-1]), True))
    return Word(simplified(word), "", tuple(readings), in_user_lexicon=True)


@lru_cache(maxsize=1)
def _load_segmenter() -> tuple["Tokenizer", Mapping[str, str]]:
    """Return jieba's tokenizer over its bundled dictionary, and the dictionary's part of speech of each word.

    Reads the dictionary in one pass, without jieba's cache file in the shared temporary folder.
    """
    with warnings.catch_warnings():
        # Importing jieba imports pkg_resources, which warns of its deprecation.
        warnings.simplefilter("ignore")
        import jieba

    tokenizer = jieba.Tokenizer()
    frequencies: dict[str, int] = {}
    tags: dict[str, str] = {}
    with tokenizer.get_dict_file() as lines:
        for line in lines:
            word, frequency, tag = line.decode("utf-8").split(" ")
            frequencies[word] = int(frequency)
            tags[word] = tag.strip()
    total = sum(frequencies.values())
    for word in tags:
        for end in range(1, len(word)):
            frequencies.setdefault(word[:end], 0)
    tokenizer.FREQ, tokenizer.total, tokenizer.initialized = frequencies, total, True
    return tokenizer, tags


@lru_cache(maxsize=1)
def _load_simplifier() -> tuple["TextNormalizer", threading.Lock]:
    from kaldifst import TextNormalizer

    # Located, not imported: wetext itself needs packages that are not installed.
    table = distribution("wetext").locate_file("wetext/fsts/traditional_to_simple.fst")
    return TextNormalizer(str(table)), threading.Lock()


def simplified(text: str) -> str:
    """Return the text with traditional characters replaced one to one by the simplified ones of the dictionaries."""
    try:
        text.encode("gb2312")
    except UnicodeEncodeError:
        return "".join(map(_simplified_character, text))
    return text


@lru_cache(maxsize=32768)
def _simplified_character(character: str) -> str:
    try:
        character.encode("gb2312")
    except UnicodeEncodeError:
        simplifier, lock = _load_simplifier()
        with lock:
            simple: str = simplifier.normalize(character)
        return simple if len(simple) == 1 else character
    return character
