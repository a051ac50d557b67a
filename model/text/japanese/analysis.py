"""Analysis of a Japanese text by OpenJTalk: words with their phones and pitch."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import pyopenjtalk
from pyopenjtalk.openjtalk import OpenJTalk
from pyopenjtalk.types import NJDFeature

LOW: Final = 0
HIGH: Final = 1

# OpenJTalk phones that the symbol table writes differently. Vowels in capitals are devoiced, which the voice learns by
# itself; labialised consonants and "fy" are written as two phones.
_RESPELLED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "A": ("a",),
        "I": ("i",),
        "U": ("u",),
        "E": ("e",),
        "O": ("o",),
        "cl": ("q",),
        "v": ("V",),
        "kw": ("k", "w"),
        "gw": ("g", "w"),
        "fy": ("f", "y"),
    }
)
_MORA_ENDS: Final = frozenset({"a", "i", "u", "e", "o", "N", "q"})
_PAUSES: Final = frozenset("、。！？…　 ")
# Analysis takes quadratic time; nearly every sentence is far shorter.
_LONGEST_PIECE: Final = 300
_SMALL_KANA: Final = "ァィゥェォャュョヮ"


@dataclass(frozen=True)
class Morpheme:
    """Word found by OpenJTalk: characters [start, end) of the text, its phones, and a pitch (0 low, 1 high) for each.

    A word without phones has no reading.
    """

    start: int
    end: int
    phones: tuple[str, ...]
    pitches: tuple[int, ...]


def analyse(text: str) -> list[Morpheme]:
    """Return the words of a text in order, without its pauses (、。！？… and spaces); spans do not overlap."""
    morphemes: list[Morpheme] = []
    for start, piece in _pieces(text):
        for morpheme in _analyse_piece(piece):
            placed = Morpheme(start + morpheme.start, start + morpheme.end, morpheme.phones, morpheme.pitches)
            if morphemes and placed.start < morphemes[-1].end:
                morphemes[-1] = _merged(morphemes[-1], placed)
            else:
                morphemes.append(placed)
    return morphemes


def read_katakana(reading: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the phones and pitches of a word given in dictionary katakana: オウ and エイ are long vowels.

    A middle dot separates two vowels (スペ・イン). The pitch is that of an unaccented word: low, then high.
    """
    sounded = re.sub(r"(?<=[オコソトノホモヨロゴゾドボポョ])ウ|(?<=[エケセテネヘメレゲゼデベペ])イ", "ー", reading)
    sounded = sounded.replace("・", "")
    feature: NJDFeature = {
        "string": sounded,
        "pos": "名詞",
        "pos_group1": "一般",
        "pos_group2": "*",
        "pos_group3": "*",
        "ctype": "*",
        "cform": "*",
        "orig": sounded,
        "read": sounded,
        "pron": sounded,
        "acc": 0,
        "chain_rule": "*",
        "chain_flag": -1,
        "mora_size": sum(kana not in _SMALL_KANA for kana in sounded),
        "is_reading_protected": False,
        "is_reading_rewritten": False,
    }
    phones = [phone for sound in _analyser().extract_phonemes([feature]) for phone in _respelled(sound)]
    first_mora = next((index + 1 for index, phone in enumerate(phones) if phone in _MORA_ENDS), len(phones))
    return tuple(phones), (LOW,) * first_mora + (HIGH,) * (len(phones) - first_mora)


@lru_cache(maxsize=1)
def _analyser() -> OpenJTalk:
    """Return a thread-safe analyser. The package's shared one may be given further dictionaries by others."""
    return OpenJTalk(dn_mecab=pyopenjtalk.OPEN_JTALK_DICT_DIR)


def _respelled(sound: str) -> tuple[str, ...]:
    return _RESPELLED.get(sound, (sound,))


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Yield the text in pieces with their starts, cut after a sentence if possible, else after any pause."""
    start = 0
    while len(text) - start > _LONGEST_PIECE:
        window = text[start : start + _LONGEST_PIECE]
        cut = max(map(window.rfind, "。！？…")) + 1 or max(map(window.rfind, "、 ")) + 1 or _LONGEST_PIECE
        yield start, text[start : start + cut]
        start += cut
    yield start, text[start:]


def _analyse_piece(piece: str) -> list[Morpheme]:
    if all(character in _PAUSES for character in piece):
        return []
    try:
        entries = pyopenjtalk.g2p_mapping_prosody(piece, jtalk=_analyser())
    except (ValueError, RuntimeError):
        # The library checks its own alignment and fails if it does not match; then the parts are read separately.
        if len(piece) == 1:
            return [Morpheme(0, 1, (), ())]
        middle = len(piece) // 2
        later = [
            Morpheme(part.start + middle, part.end + middle, part.phones, part.pitches)
            for part in _analyse_piece(piece[middle:])
        ]
        return [*_analyse_piece(piece[:middle]), *later]
    return _placed_in_order(piece, entries)


def _placed_in_order(piece: str, entries: list[Any]) -> list[Morpheme]:
    """Return OpenJTalk's words with spans; a word without one (二〇二四 has a spoken 十) joins its neighbour."""
    morphemes: list[Morpheme] = []
    unplaced: Morpheme | None = None
    for entry in entries:
        start, end = _without_pauses(piece, *entry["char_span"])
        phones, pitches = _phones_and_pitches(entry)
        if start < end and not phones:
            morphemes.extend(_read_single_characters(piece, start, end))
            continue
        morpheme = Morpheme(start, end, phones, pitches)
        if start < end and not (morphemes and start < morphemes[-1].end):
            morphemes.append(morpheme if unplaced is None else _merged(unplaced, morpheme))
            unplaced = None
        elif phones and morphemes:
            morphemes[-1] = _merged(morphemes[-1], morpheme)
        elif phones:
            unplaced = morpheme
    return morphemes


def _without_pauses(piece: str, start: int, end: int) -> tuple[int, int]:
    while start < end and piece[start] in _PAUSES:
        start += 1
    while start < end and piece[end - 1] in _PAUSES:
        end -= 1
    return start, end


def _phones_and_pitches(entry: Any) -> tuple[tuple[str, ...], tuple[int, ...]]:
    phones: list[str] = []
    pitches: list[int] = []
    for sound in entry["phonemes"]:
        # Boundaries, pauses, spaces and unknown words have no pitch.
        if sound["kind"] == "Phoneme" and sound["pitch"] is not None:
            spelled = _respelled(sound["phoneme"])
            phones.extend(spelled)
            pitches.extend([HIGH if sound["pitch"] == "High" else LOW] * len(spelled))
    return tuple(phones), tuple(pitches)


def _merged(first: Morpheme, second: Morpheme) -> Morpheme:
    placed = [morpheme for morpheme in (first, second) if morpheme.start < morpheme.end]
    start, end = min(morpheme.start for morpheme in placed), max(morpheme.end for morpheme in placed)
    return Morpheme(start, end, first.phones + second.phones, first.pitches + second.pitches)


def _read_single_characters(piece: str, start: int, end: int) -> list[Morpheme]:
    """Return the characters of a word that OpenJTalk does not know, each read separately."""
    return [
        Morpheme(index, index + 1, *_single_character(piece[index]))
        for index in range(start, end)
        if piece[index] not in _PAUSES
    ]


@lru_cache(maxsize=4096)
def _single_character(character: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if not character.isalnum() or character == "ー":
        return (), ()
    phones: list[str] = []
    pitches: list[int] = []
    for entry in pyopenjtalk.g2p_mapping_prosody(character, jtalk=_analyser()):
        entry_phones, entry_pitches = _phones_and_pitches(entry)
        phones.extend(entry_phones)
        pitches.extend(entry_pitches)
    return tuple(phones), tuple(pitches)
