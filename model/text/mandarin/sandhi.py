"""Tone sandhi in a phrase: 一, 不, neutral syllables, and third tones before third tones.

Third tones follow foot formation (Shih, "The Prosodic Domain of Tone Sandhi in Chinese", 1986): short words pair from
the left, a remaining syllable joins its neighbour, and the change applies from the innermost pair outwards, within the
foot.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from model.text.mandarin.neutral_tone import TRIED_VERBS, neutral_positions
from model.text.mandarin.syllables import NEUTRAL
from model.text.mandarin.words import Word

Span = tuple[int, int]

_DIGITS: Final = frozenset("零二三四五六七八九")
_POWERS: Final = frozenset("十百千万亿")
_LARGE_POWERS: Final = frozenset("百千万亿")
_RANKED: Final = ("月份", "年级", "等奖", "等功", "等舱", "楼", "号", "级")
_ENDING_IN_ONE: Final = ("统", "唯", "专", "单", "划", "归", "合", "之", "星期", "周", "礼拜", "逐")
_COMPLEMENTS: Final = frozenset("了着到见懂起动住及得下清完")
_FOOT: Final = 3


def spoken_tones(words: Sequence[Word], tones: Sequence[int]) -> list[int]:
    """Return the surface tones (1 to 5) of a run of words without a pause, from their dictionary tones. Words of the
    user lexicon keep theirs.
    """
    text = "".join(word.text for word in words)
    spoken = list(tones)
    fixed = _users_positions(words)
    for index, character in enumerate(text):
        if index in fixed:
            continue
        if character == "一":
            spoken[index] = _tone_of_one(text, index, tones)
        elif character == "不":
            spoken[index] = _tone_of_not(words, text, index, tones)
    neutral = neutral_positions(words, text) - fixed
    for index in neutral:
        spoken[index] = NEUTRAL
    if any(spoken[index] == 3 == spoken[index + 1] for index in range(len(spoken) - 1)):
        _raise_third_tones(words, spoken, fixed)
    _raise_before_doubled(words, tones, spoken, neutral)
    return spoken


def _users_positions(words: Iterable[Word]) -> set[int]:
    positions: set[int] = set()
    start = 0
    for word in words:
        if word.in_user_lexicon:
            positions.update(range(start, start + len(word.text)))
        start += len(word.text)
    return positions


def _tone_of_one(text: str, index: int, tones: Sequence[int]) -> int:
    """Return the tone of 一: first as a digit, an ordinal or a last syllable; neutral in 看一看; else second before a
    fourth tone, fourth before others.
    """
    before, after = text[:index], text[index + 1 :]
    if not after or before[-1:] in ("第", "初") or _is_digit_one(before, after):
        return 1
    if before and before[-1] == after[0] and before[-2:-1] != "一" and before[-1] not in _POWERS:
        return NEUTRAL
    if before.endswith(_ENDING_IN_ONE) and after[0] != "个":
        return 1
    if after.startswith(_RANKED) or after[0] == "月" or (after[0] == "日" and before[-1:] == "月"):
        return 1
    return 2 if tones[index + 1] == 4 or after[0] == "个" else 4


def _is_digit_one(before: str, after: str) -> bool:
    if after[0] in _DIGITS or after[0] in "一十" or before[-1:] in _DIGITS or before[-1:] == "一":
        return True
    if (before[-1:] == "比" and before[-2:-1] in _DIGITS | {"一"}) or (
        after[0] == "比" and after[1:2] in _DIGITS | {"一"}
    ):
        return True
    if before[-1:] == "点":
        return before[-2:-1] in _DIGITS | _POWERS and after[0] not in "刻起共边直定样"
    return before[-1:] in _POWERS and after[0] not in _LARGE_POWERS and after[0] not in "起共边直定样"


def _tone_of_not(words: Sequence[Word], text: str, index: int, tones: Sequence[int]) -> int:
    """Return the tone of 不: neutral inside 好不好 and 看不见, second before a fourth tone, else fourth."""
    if index + 1 == len(text):
        return 4
    if index and text[index - 1] == text[index + 1]:
        return NEUTRAL
    start = 0
    for number, word in enumerate(words):
        if start <= index < start + len(word.text):
            inside = len(word.text) == 3 and index == start + 1
            after_verb = (
                len(word.text) == 1 and number > 0 and words[number - 1].tag == "v" and len(words[number - 1].text) == 1
            )
            if inside or (after_verb and text[index + 1] in _COMPLEMENTS):
                return NEUTRAL
            break
        start += len(word.text)
    return 2 if tones[index + 1] == 4 else 4


def _raise_third_tones(words: Sequence[Word], spoken: list[int], fixed: set[int]) -> None:
    words_by_start = {}
    start = 0
    for word in words:
        words_by_start[start] = word
        start += len(word.text)
    for foot in _feet(words, spoken):
        _raise_in_foot(foot, words_by_start, spoken, fixed)


def _feet(words: Sequence[Word], spoken: Sequence[int]) -> list[list[Span]]:
    """Return the feet of a phrase: lists of word spans, at most three syllables each.

    Words entirely in third tone pair first, then adjacent third tones; a single syllable joins a word of two only if
    that word is entirely in third tone, or is a verb or adverb before it (没有伞, not 机场|等).
    """
    tags: dict[int, str] = {}
    feet: list[list[Span]] = []
    start = 0
    for word in words:
        tags[start] = word.tag[:1]
        feet.append([(start, start + len(word.text))])
        start += len(word.text)

    def all_third(left: list[Span], right: list[Span]) -> bool:
        return all(spoken[index] == 3 for index in range(left[0][0], right[-1][1]))

    def third_meets_third(left: list[Span], right: list[Span]) -> bool:
        if spoken[left[-1][1] - 1] != 3 or spoken[right[0][0]] != 3:
            return False
        start, end = left[-1]
        return end - start == 1 or all_third(left, left) or tags[start] in ("v", "d")

    return _join_feet(_join_feet(feet, all_third), third_meets_third)


def _join_feet(feet: Sequence[list[Span]], belong: Callable[[list[Span], list[Span]], bool]) -> list[list[Span]]:
    """Return the feet with adjacent short ones that belong together joined in pairs, from the left."""
    joined: list[list[Span]] = []
    last_is_pair = False
    for foot in feet:
        short = bool(joined) and foot[-1][1] - joined[-1][0][0] <= _FOOT
        last_is_pair = short and not last_is_pair and belong(joined[-1], foot)
        if last_is_pair:
            joined[-1] = [*joined[-1], *foot]
        else:
            joined.append(foot)
    return joined


def _raise_in_foot(
    foot: Sequence[Span], words_by_start: Mapping[int, Word], spoken: list[int], fixed: set[int]
) -> None:
    """Apply third-tone sandhi in a foot, innermost first: inside each word, then between words from the right, so that
    single syllables bind to what follows.
    """
    for start, end in foot:
        for left in _inner_borders(start, end, words_by_start[start].binds_right):
            _raise_at(left, spoken, fixed)
    for _, end in reversed(foot[:-1]):
        _raise_at(end - 1, spoken, fixed)


def _inner_borders(start: int, end: int, binds_right: bool) -> list[int]:
    """Return the left sides of a word's inner boundaries, innermost first: 展览|馆, 小|老虎; longer words in pairs."""
    if end - start == _FOOT:
        return [start + 1, start] if binds_right else [start, start + 1]
    pairs = list(range(start, end - 1, 2))
    return [*pairs, *(left for left in range(end - 2, start, -1) if left not in pairs)]


def _raise_at(left: int, spoken: list[int], fixed: set[int]) -> None:
    if spoken[left] == 3 == spoken[left + 1] and left not in fixed:
        spoken[left] = 2


def _raise_before_doubled(words: Sequence[Word], tones: Sequence[int], spoken: list[int], neutral: set[int]) -> None:
    """Give the first syllable of 想想 the second tone that its now neutral second syllable triggered; 姐姐 keeps its
    third.
    """
    verbs = [word.tag[:1] == "v" for word in words for _ in word.text]
    text = "".join(word.text for word in words)
    for index in neutral:
        if (
            index
            and (verbs[index] or text[index] in TRIED_VERBS)
            and text[index] == text[index - 1]
            and tones[index] == 3 == spoken[index - 1]
        ):
            spoken[index - 1] = 2
