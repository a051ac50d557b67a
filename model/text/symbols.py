"""The symbol table: phones, tones and languages as the integers that a checkpoint was trained with.

The table is built from the three languages' phone inventories: the pad first, then every phone in code-point
order, then the pause marks, then the two symbols for silence and the unknown. The order is a contract with
existing checkpoints, so additions only ever go after the last symbol.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from model.text.errors import ReasonCode, TextError

if TYPE_CHECKING:
    from model.text.phone_sequence import PhoneSequence

PAD: Final = "_"
PAUSE_MARKS: Final = ("!", "?", "…", ",", ".", "'", "-")
SILENCE_SYMBOLS: Final = (*PAUSE_MARKS, "SP", "UNK")


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# Mandarin: the initials of pinyin, marks for syllables without an initial, and the finals ("i0" and "ir" are
# the apical vowels of "si" and "shi", "v" is ü).
MANDARIN_PHONES: Final = _words(
    "b p m f d t n l g k h j q x zh ch sh r z c s y w "
    "AA EE OO "
    "a ai an ang ao e ei en eng er i i0 ir ia ian iang iao ie in ing iong iu o ong ou "
    "u ua uai uan uang ui un uo v van ve vn E En"
)
# Japanese: moraic consonants with their palatalised forms, vowels short and long, the moraic nasal N and the
# stop q.
JAPANESE_PHONES: Final = _words(
    "a i u e o a: i: u: e: o: N q k ky g gy s sh z zy j t ty ch ts d dy n ny h hy f b by p py m my y r ry w V"
)
# English: ARPAbet in lower case. The dictionary's "v" is "V" because "v" is the Mandarin vowel ü.
ENGLISH_PHONES: Final = _words(
    "aa ae ah ao aw ay eh er ey ih iy ow oy uh uw b ch d dh f g hh jh k l m n ng p r s sh t th V w y z zh"
)

SYMBOLS: Final = (PAD, *sorted(MANDARIN_PHONES | JAPANESE_PHONES | ENGLISH_PHONES), *SILENCE_SYMBOLS)
TONES_PER_LANGUAGE: Final[Mapping[str, int]] = {"ZH": 6, "JP": 1, "EN": 4}


def _tone_starts() -> dict[str, int]:
    starts, next_start = {}, 0
    for language, count in TONES_PER_LANGUAGE.items():
        starts[language] = next_start
        next_start += count
    return starts


@dataclass(frozen=True)
class SymbolTable:
    """What turns symbols into ids; it travels inside checkpoints.

    `tone_starts` gives, per language, the id of its tone 0; `languages` lists the languages by id.
    """

    symbols: tuple[str, ...] = SYMBOLS
    tone_starts: Mapping[str, int] = field(default_factory=_tone_starts)
    tone_count: int = sum(TONES_PER_LANGUAGE.values())
    languages: tuple[str, ...] = tuple(TONES_PER_LANGUAGE)

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols):
            repeated = sorted({symbol for symbol in self.symbols if self.symbols.count(symbol) > 1})
            raise ValueError(f"symbol table: symbols listed more than once: {repeated}")
        if set(self.tone_starts) != set(self.languages):
            raise ValueError(
                f"tone starts for {sorted(self.tone_starts)}, languages {sorted(self.languages)}"
            )
        object.__setattr__(self, "_symbol_ids", {symbol: index for index, symbol in enumerate(self.symbols)})

    def symbol_id(self, symbol: str) -> int:
        """The id of a symbol; TextError unknown_symbol when the table does not have it."""
        symbol_ids: dict[str, int] = self.__dict__["_symbol_ids"]
        if symbol not in symbol_ids:
            raise TextError(
                ReasonCode.UNKNOWN_SYMBOL, f"{symbol!r} is not one of the table's {len(self.symbols)} symbols"
            )
        return symbol_ids[symbol]

    def language_id(self, language: str) -> int:
        """The id of a language; TextError unknown_language lists the table's languages."""
        if language not in self.languages:
            raise TextError(
                ReasonCode.UNKNOWN_LANGUAGE,
                f"{language!r} is not in the symbol table, which has {list(self.languages)}",
            )
        return self.languages.index(language)

    def tone_id(self, language: str, tone: int) -> int:
        """The id of a language's own tone; TextError unknown_symbol when the language has no such tone."""
        start = self.tone_starts[self.languages[self.language_id(language)]]
        later_starts = [other for other in self.tone_starts.values() if other > start]
        end = min(later_starts, default=self.tone_count)
        if not 0 <= tone < end - start:
            raise TextError(
                ReasonCode.UNKNOWN_SYMBOL, f"tone {tone} is outside 0..{end - start - 1} of {language}"
            )
        return start + tone

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "symbols": list(self.symbols),
            "tone_starts": dict(self.tone_starts),
            "tone_count": self.tone_count,
            "languages": list(self.languages),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SymbolTable":
        """The table that `to_dict` wrote; ValueError names missing and unknown keys."""
        expected = {"symbols", "tone_starts", "tone_count", "languages"}
        if set(values) != expected:
            raise ValueError(
                f"symbol table: missing keys {sorted(expected - set(values))}, "
                f"unknown keys {sorted(set(values) - expected)}"
            )
        return cls(
            symbols=tuple(values["symbols"]),
            tone_starts=dict(values["tone_starts"]),
            tone_count=int(values["tone_count"]),
            languages=tuple(values["languages"]),
        )


@dataclass(frozen=True)
class EncodedText:
    """The text encoder's integer input for one utterance, pads (and blanks) included.

    phone_ids, tone_ids, language_ids: P entries each. word2ph: phones per word, a pad counting as a word;
    sums to P.
    """

    phone_ids: tuple[int, ...]
    tone_ids: tuple[int, ...]
    language_ids: tuple[int, ...]
    word2ph: tuple[int, ...]


def encode(sequence: "PhoneSequence", language: str, table: SymbolTable, add_blank: bool) -> EncodedText:
    """Ids of a phone sequence, with a pad at both ends and, if `add_blank`, a 0 before, between and after.

    n phones give P = n + 2 ids, or 2(n + 2) + 1 with blanks. The blank before a phone sequence counts for its
    first word, each other blank for the word of the phone before it. Raises TextError (unknown_symbol,
    unknown_language).
    """
    return encode_phones(sequence.phones, sequence.tones, language, table, add_blank, sequence.word2ph)


def encode_phones(
    phones: Sequence[str], tones: Sequence[int], language: str, table: SymbolTable, add_blank: bool,
    word2ph: Sequence[int] | None = None,
) -> EncodedText:  # fmt: skip
    """`encode` for phones and tones as a manifest holds them; without word2ph a phone counts as a word."""
    per_word = (1, *(word2ph or [1] * len(phones)), 1)
    phone_ids = [table.symbol_id(phone) for phone in (PAD, *phones, PAD)]
    tone_ids = [table.tone_id(language, tone) for tone in (0, *tones, 0)]
    language_ids = [table.language_id(language)] * len(phone_ids)
    if add_blank:
        phone_ids, tone_ids = _with_blanks(phone_ids), _with_blanks(tone_ids)
        language_ids = _with_blanks(language_ids)
        per_word = (2 * per_word[0] + 1, *(2 * count for count in per_word[1:]))
    return EncodedText(tuple(phone_ids), tuple(tone_ids), tuple(language_ids), per_word)


def _with_blanks(ids: Sequence[int]) -> list[int]:
    spaced = [0] * (2 * len(ids) + 1)
    spaced[1::2] = ids
    return spaced
