"""Symbol table: integer ids of phones, tones and languages, as a checkpoint was trained with them.

The table is built from the phone inventories of the three languages: the pad, all phones in code-point order, the pause
marks, and the symbols for silence and unknown. Existing checkpoints depend on this order, so new symbols are only
appended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from model.text.errors import ReasonCode, TextError
from model.text.word_lists import as_words

if TYPE_CHECKING:
    from model.text.phone_sequence import PhoneSequence

PAD: Final = "_"
PAUSE_MARKS: Final = ("!", "?", "…", ",", ".", "'", "-")
SILENCE_SYMBOLS: Final = (*PAUSE_MARKS, "SP", "UNK")


# Mandarin: pinyin initials, marks for syllables without an initial, and finals ("i0" and "ir" are the apical vowels of
# "si" and "shi", "v" is ü).
MANDARIN_PHONES: Final = as_words(
    "b p m f d t n l g k h j q x zh ch sh r z c s y w "
    "AA EE OO "
    "a ai an ang ao e ei en eng er i i0 ir ia ian iang iao ie in ing iong iu o ong ou "
    "u ua uai uan uang ui un uo v van ve vn E En"
)
# Japanese: moraic consonants with their palatalised forms, short and long vowels, the moraic nasal N and the geminate
# q.
JAPANESE_PHONES: Final = as_words(
    "a i u e o a: i: u: e: o: N q k ky g gy s sh z zy j t ty ch ts d dy n ny h hy f b by p py m my y r ry w V"
)
# English: ARPAbet in lower case. The consonant "v" is "V", because "v" is the Mandarin vowel ü.
ENGLISH_PHONES: Final = as_words(
    "aa ae ah ao aw ay eh er ey ih iy ow oy uh uw b ch d dh f g hh jh k l m n ng p r s sh t th V w y z zh"
)

SYMBOLS: Final = (PAD, *sorted(MANDARIN_PHONES | JAPANESE_PHONES | ENGLISH_PHONES), *SILENCE_SYMBOLS)
REFERENCE_SYMBOL_COUNT: Final = 112
# Language-local tones → ids. Mandarin 0-5 (0 for marks, 5 neutral), English 0 and stress 0-2 plus 1. The reference has
# one id for Japanese, so the id of high pitch is appended after all of the reference's ids.
TONES: Final[Mapping[str, tuple[int, ...]]] = {"ZH": (0, 1, 2, 3, 4, 5), "JP": (6, 11), "EN": (7, 8, 9, 10)}
REFERENCE_TONES: Final[Mapping[str, tuple[int, ...]]] = {
    "ZH": (0, 1, 2, 3, 4, 5),
    "JP": (6, 6),
    "EN": (7, 8, 9, 10),
}


@dataclass(frozen=True)
class SymbolTable:
    """Mapping from symbols to ids; stored in checkpoints.

    `tones` gives the id of each language's tones. Two tones may share an id: the phones keep both, the model does not
    distinguish them. `languages` lists the languages by id.
    """

    symbols: tuple[str, ...] = SYMBOLS
    tones: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: dict(TONES))
    languages: tuple[str, ...] = tuple(TONES)

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols):
            repeated = sorted({symbol for symbol in self.symbols if self.symbols.count(symbol) > 1})
            raise ValueError(f"symbol table: symbols listed more than once: {repeated}")
        if set(self.tones) != set(self.languages):
            raise ValueError(f"symbol table: tones for {sorted(self.tones)}, languages {sorted(self.languages)}")
        object.__setattr__(self, "_symbol_ids", {symbol: index for index, symbol in enumerate(self.symbols)})

    @classmethod
    def reference(cls) -> "SymbolTable":
        """Return the 112 symbols and 11 tones of Bert-VITS2 1.1, for its checkpoints: Japanese pitch is not
        distinguished.
        """
        return cls(SYMBOLS[:REFERENCE_SYMBOL_COUNT], dict(REFERENCE_TONES), tuple(REFERENCE_TONES))

    @property
    def tone_count(self) -> int:
        """Return the number of tone ids over all languages."""
        return 1 + max(tone_id for ids in self.tones.values() for tone_id in ids)

    def symbol_id(self, symbol: str) -> int:
        """Return the id of a symbol. Raises TextError unknown_symbol."""
        symbol_ids: dict[str, int] = self.__dict__["_symbol_ids"]
        if symbol not in symbol_ids:
            raise TextError(
                ReasonCode.UNKNOWN_SYMBOL, f"{symbol!r} is not one of the table's {len(self.symbols)} symbols"
            )
        return symbol_ids[symbol]

    def language_id(self, language: str) -> int:
        """Return the id of a language. Raises TextError unknown_language, which lists the table's languages."""
        if language not in self.languages:
            raise TextError(
                ReasonCode.UNKNOWN_LANGUAGE,
                f"{language!r} is not in the symbol table, which has {list(self.languages)}",
            )
        return self.languages.index(language)

    def tone_id(self, language: str, tone: int) -> int:
        """Return the id of a language-local tone. Raises TextError unknown_symbol for a tone that the language does not
        have.
        """
        ids = self.tones[self.languages[self.language_id(language)]]
        if not 0 <= tone < len(ids):
            raise TextError(ReasonCode.UNKNOWN_SYMBOL, f"tone {tone} is outside 0..{len(ids) - 1} of {language}")
        return ids[tone]

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain JSON values."""
        return {
            "symbols": list(self.symbols),
            "tones": {language: list(ids) for language, ids in self.tones.items()},
            "languages": list(self.languages),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SymbolTable":
        """Return the table that `to_dict` wrote. Raises ValueError, which names missing and unknown keys."""
        expected = {"symbols", "tones", "languages"}
        if set(values) != expected:
            raise ValueError(
                f"symbol table: missing keys {sorted(expected - set(values))}, "
                f"unknown keys {sorted(set(values) - expected)}"
            )
        return cls(
            symbols=tuple(values["symbols"]),
            tones={language: tuple(ids) for language, ids in values["tones"].items()},
            languages=tuple(values["languages"]),
        )


@dataclass(frozen=True)
class EncodedText:
    """Integer inputs of the text encoder for one utterance, pads (and blanks) included.

    phone_ids, tone_ids, language_ids: P entries each. word2ph: phones per word, where a pad counts as a word; sums to
    P.
    """

    phone_ids: tuple[int, ...]
    tone_ids: tuple[int, ...]
    language_ids: tuple[int, ...]
    word2ph: tuple[int, ...]


def encode(sequence: "PhoneSequence", language: str, table: SymbolTable, add_blank: bool) -> EncodedText:
    """Return the ids of a phone sequence, with a pad at both ends and, with `add_blank`, a 0 before, between and after.

    n phones give P = n + 2 ids, or 2(n + 2) + 1 with blanks. The first blank belongs to the first word, every other
    blank to the word of the phone before it. Words are in `language` unless the sequence names their languages. Raises
    TextError (unknown_symbol, unknown_language).
    """
    languages = sequence.phone_languages or (language,) * len(sequence.phones)
    return encode_phones(sequence.phones, sequence.tones, languages, language, table, add_blank, sequence.word2ph)


def encode_phones(
    phones: Sequence[str],
    tones: Sequence[int],
    phone_languages: Sequence[str],
    language: str,
    table: SymbolTable,
    add_blank: bool,
    word2ph: Sequence[int] | None = None,
) -> EncodedText:
    """Encode phones, tones and one language code per phone, as manifests hold them (see `encode`); the pads are in
    `language`.

    Without word2ph every phone counts as a word.
    """
    per_word = (1, *(word2ph or [1] * len(phones)), 1)
    languages = (language, *phone_languages, language)
    phone_ids = [table.symbol_id(phone) for phone in (PAD, *phones, PAD)]
    tone_ids = [table.tone_id(spoken, tone) for spoken, tone in zip(languages, (0, *tones, 0), strict=True)]
    language_ids = [table.language_id(spoken) for spoken in languages]
    if add_blank:
        phone_ids, tone_ids = _with_blanks(phone_ids), _with_blanks(tone_ids)
        language_ids = _with_blanks(language_ids)
        per_word = (2 * per_word[0] + 1, *(2 * count for count in per_word[1:]))
    return EncodedText(tuple(phone_ids), tuple(tone_ids), tuple(language_ids), per_word)


def _with_blanks(ids: Sequence[int]) -> list[int]:
    spaced = [0] * (2 * len(ids) + 1)
    spaced[1::2] = ids
    return spaced
