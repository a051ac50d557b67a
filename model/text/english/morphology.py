"""Pronunciations of inflected, prefixed and compound words, derived from known words.

Only formations whose pronunciation follows from their parts are used; all others give None.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from model.text.word_lists import as_words

Phones = tuple[str, ...]
Lookup = Callable[[str], Phones | None]


_SIBILANTS: Final = frozenset({"S", "Z", "SH", "ZH", "CH", "JH"})
_VOICELESS: Final = frozenset({"P", "T", "K", "F", "TH", "S", "SH", "CH"})
_VOWEL_LETTERS: Final = frozenset("aeiou")

# Suffixes whose pronunciation does not depend on the stem and that do not move its stress.
_FIXED_ENDINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "'ll": "AH0 L",
        "'ve": "AH0 V",
        "'re": "ER0",
        "ing": "IH0 NG",
        "er": "ER0",
        "ly": "L IY0",
        "ness": "N AH0 S",
        "less": "L AH0 S",
        "ful": "F AH0 L",
        "able": "AH0 B AH0 L",
        "ment": "M AH0 N T",
        "ship": "SH IH2 P",
    }
)
# Suffixes before which a silent e may be dropped or a consonant doubled.
_VOWEL_ENDINGS: Final = frozenset({"ing", "er", "able"})

_PREFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "un": "AH0 N",
        "re": "R IY0",
        "non": "N AA2 N",
        "pre": "P R IY0",
        "mis": "M IH2 S",
        "over": "OW2 V ER0",
        "under": "AH2 N D ER0",
        "sub": "S AH2 B",
        "super": "S UW2 P ER0",
        "multi": "M AH2 L T IY0",
        "inter": "IH2 N T ER0",
        "semi": "S EH2 M IY0",
        "meta": "M EH2 T AH0",
        "anti": "AE2 N T IY0",
        "micro": "M AY2 K R OW0",
        "auto": "AO2 T OW0",
        "tele": "T EH2 L AH0",
        "cyber": "S AY2 B ER0",
        "hyper": "HH AY2 P ER0",
        "ultra": "AH2 L T R AH0",
    }
)
_SHORTEST_STEM: Final = 3
_SHORTEST_COMPOUND_PART: Final = 4
_COMMON_INFLECTIONS: Final = 2
# Compound parts that the test for common words misses: short ones and ones without inflections.
_COMPOUND_PARTS: Final = as_words(
    "up out off on box key pad day way net web one two fax log car air any top end bar bed bus cut eye fly "
    "gun hat ice "
    "job law map oil pay pin pop sea sky tax tea toe war big hot new old set app bug dry wet low raw tap "
    "tip lip arm "
    "ear leg mud run kit upper lower ever forever more every some self over under after"
)
# Suffixes that look like second parts of a compound.
_NOT_SECOND: Final = as_words("able ably ally ring red ness less ment mann land ring ford sell bell set")


def derive(word: str, lookup: Lookup, depth: int = 2) -> Phones | None:
    """Return the ARPAbet phones of a lower-case word that `lookup` does not have, derived from parts that it has.

    depth: maximum number of nested formations (un + mute + d is two).
    """
    if depth == 0:
        return None

    def known(part: str) -> Phones | None:
        return lookup(part) or derive(part, lookup, depth - 1)

    for formation in (_with_s, _with_ed, _with_fixed_ending, _with_prefix):
        phones = formation(word, known)
        if phones is not None:
            return phones
    return _compound(word, lookup)


def _with_s(word: str, known: Lookup) -> Phones | None:
    """Derive possessives and plurals."""
    if word.endswith("'s"):
        stem = known(word[:-2])
    elif word.endswith(("s'", "ss", "us", "is")):
        stem = known(word[:-1]) if word.endswith("'") else None
        return stem
    elif word.endswith("s") and len(word) > _SHORTEST_STEM:
        stem = known(word[:-1])
        if stem is None and word.endswith("ies"):
            stem = known(word[:-3] + "y")
        if stem is None and word.endswith("es"):
            stem = known(word[:-2])
            if stem is not None and stem[-1] not in _SIBILANTS and stem[-1][-1] not in "012":
                return None
    else:
        return None
    if stem is None:
        return None
    if stem[-1] in _SIBILANTS:
        return (*stem, "IH0", "Z")
    return (*stem, "S" if stem[-1] in _VOICELESS else "Z")


def _with_ed(word: str, known: Lookup) -> Phones | None:
    """Derive past forms, and 'd for would or had."""
    if word.endswith("'d"):
        stem = known(word[:-2])
    elif word.endswith("ed") and len(word) - 2 >= _SHORTEST_STEM:
        stem = known(word[:-3] + "y") if word.endswith("ied") else None
        stem = stem or next(_known_stems(word[:-2], known), None)
    else:
        return None
    if stem is None:
        return None
    if stem[-1] in {"T", "D"}:
        return (*stem, "IH0", "D")
    return (*stem, "T" if stem[-1] in _VOICELESS else "D")


def _with_fixed_ending(word: str, known: Lookup) -> Phones | None:
    for ending, phones in _FIXED_ENDINGS.items():
        base = word.removesuffix(ending)
        if base == word or len(base) < _SHORTEST_STEM - (ending[0] == "'"):
            continue
        candidates = _known_stems(base, known) if ending in _VOWEL_ENDINGS else _single(known(base))
        stem = next(candidates, None)
        if stem is not None:
            # "Fully" has one l sound.
            return (*stem, *phones.split()[ending == "ly" and stem[-1] == "L" :])
    if word.endswith("in") and known(word + "g"):  # "runnin'", apostrophe already stripped
        running = known(word + "g")
        if running is not None and running[-1] == "NG":
            return (*running[:-1], "N")
    return None


def _known_stems(base: str, known: Lookup) -> Iterator[Phones]:
    """Return the readings of the possible stems of a vowel-initial suffix: muting → mute, running → run, playing →
    play.
    """
    doubled = len(base) > _SHORTEST_STEM and base[-1] == base[-2] and base[-1] not in _VOWEL_LETTERS
    spellings = [base[:-1], base] if doubled and base[-1] not in "ls" else [base, base[:-1]] if doubled else [base]
    # A stem without e would have doubled its single consonant after a single vowel.
    single_consonant = len(base) > 1 and base[-1] not in _VOWEL_LETTERS and base[-2] in _VOWEL_LETTERS
    spellings = [base + "e", *spellings] if single_consonant or base[-1] in "cgvzu" else [*spellings, base + "e"]
    for spelling in spellings:
        if len(spelling) >= _SHORTEST_STEM:
            yield from _single(known(spelling))


def _single(phones: Phones | None) -> Iterator[Phones]:
    if phones is not None:
        yield phones


def _with_prefix(word: str, known: Lookup) -> Phones | None:
    for prefix, phones in _PREFIXES.items():
        stem = word.removeprefix(prefix)
        if stem != word and len(stem) > _SHORTEST_STEM:
            stem_phones = known(stem)
            if stem_phones is not None:
                return (*phones.split(), *stem_phones)
    return None


def _compound(word: str, lookup: Lookup) -> Phones | None:
    """Derive compounds of two common words; the second keeps a secondary stress. The most even split wins."""
    splits = sorted(range(2, len(word) - 1), key=lambda split: abs(2 * split - len(word)))
    for split in splits:
        left, right = word[:split], word[split:]
        if right in _NOT_SECOND or not (_is_common(left, lookup) and _is_common(right, lookup)):
            continue
        left_phones, right_phones = lookup(left), lookup(right)
        if left_phones is not None and right_phones is not None:
            return (*left_phones, *(phone.replace("1", "2") for phone in right_phones))
    return None


def _is_common(part: str, lookup: Lookup) -> bool:
    """Return whether a part is a common word. The dictionary is full of surnames, but those have no inflected forms."""
    if part in _COMPOUND_PARTS:
        return True
    if len(part) < _SHORTEST_COMPOUND_PART or lookup(part) is None:
        return False
    base = part.removesuffix("e")
    inflections = (part + "s", part + "es", base + "ed", base + "ing", base + "er", part + "ly", base + "y")
    return sum(lookup(inflection) is not None for inflection in inflections) >= _COMMON_INFLECTIONS
