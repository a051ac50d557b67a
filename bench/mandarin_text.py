"""Cleaning Mandarin lines: one pass over words with remembered readings, against libraries asked anew word by word."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.common import OURS, REFERENCE, Result, interleave, rate_result
from bench.mandarin_lines import LINES
from bench.speech import Clip
from model.text.mandarin import MandarinFrontEnd
from model.text.phone_sequence import PhoneSequence

SECONDS = 8.0
TARGET = 4.0
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PAUSES = str.maketrans(
    {"，": ",", "。": ".", "！": "!", "？": "?", "、": ",", "；": ",", "：": ",", "“": "'", "”": "'", "《": "'", "》": "'", "—": "-"}
)
_SENTENCE_END = re.compile(r"(?<=[!?…,.'-])")


def ours(front_end: MandarinFrontEnd, lines: Sequence[str]) -> list[PhoneSequence]:
    """Lines from text to phones. Readings of words are forgotten first: a line profits only from the lines before it."""
    front_end.forget_words()
    return [front_end.to_phones(front_end.normalise(line)) for line in lines]


def reference(lines: Sequence[str]) -> list[list[tuple[str, str]]]:
    """The usual order of work, without its tone rules: numbers by cn2an, tagged words by jieba, pinyin twice a word."""
    import cn2an
    from jieba import posseg
    from pypinyin import Style, lazy_pinyin

    read = []
    for line in lines:
        spoken = _NUMBER.sub(lambda match: cn2an.an2cn(match.group()), line).translate(_PAUSES)
        syllables: list[tuple[str, str]] = []
        for sentence in filter(None, _SENTENCE_END.split(spoken)):
            for word, _ in posseg.lcut(sentence):
                initials = lazy_pinyin(word, neutral_tone_with_five=True, style=Style.INITIALS)
                finals = lazy_pinyin(word, neutral_tone_with_five=True, style=Style.FINALS_TONE3)
                syllables += zip(initials, finals, strict=False)
        read.append(syllables)
    return read


def mandarin_text(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare lines per CPU-second; dictionaries are loaded before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    jieba.setLogLevel("ERROR")
    timings = interleave({
        OURS: partial(ours, MandarinFrontEnd(), LINES),
        REFERENCE: partial(reference, LINES),
    }, SECONDS, len(LINES))  # fmt: skip
    n_characters = sum(map(len, LINES)) / len(LINES)
    note = (
        f"{len(LINES)} different lines of {n_characters:.0f} characters on average, readings of words forgotten before each round; "
        "reference: jieba.posseg, pypinyin twice a word, cn2an, without its tone rules"
    )
    return rate_result("mandarin_text", timings, unit="lines per CPU-second", target=TARGET, note=note)
