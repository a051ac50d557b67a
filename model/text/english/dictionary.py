"""Project pronunciations that override the CMU dictionary.

They are code, not a data file, so that code versions cover them. A word is listed because the dictionary lacks it,
because the dictionary's first reading is not the usual one, or because it is a misspelling in the default corpus,
pronounced as intended.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

LETTER_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "a": "EY1",
        "b": "B IY1",
        "c": "S IY1",
        "d": "D IY1",
        "e": "IY1",
        "f": "EH1 F",
        "g": "JH IY1",
        "h": "EY1 CH",
        "i": "AY1",
        "j": "JH EY1",
        "k": "K EY1",
        "l": "EH1 L",
        "m": "EH1 M",
        "n": "EH1 N",
        "o": "OW1",
        "p": "P IY1",
        "q": "K Y UW1",
        "r": "AA1 R",
        "s": "EH1 S",
        "t": "T IY1",
        "u": "Y UW1",
        "v": "V IY1",
        "w": "D AH1 B AH0 L Y UW0",
        "x": "EH1 K S",
        "y": "W AY1",
        "z": "Z IY1",
    }
)

PROJECT_LEXICON: Final[Mapping[str, str]] = MappingProxyType(
    {
        # The full form, as the reference reads it; the dictionary lists the reduced form first.
        "and": "AE1 N D",
        # More frequent in speech than the metal, and than the noun for a sick person.
        "lead": "L IY1 D",
        "invalid": "IH2 N V AE1 L AH0 D",
        # With an unreduced t, as in careful speech.
        "thirty": "TH ER1 T IY0",
        # Prefixes before a hyphen ("re-enter"); the dictionary has the note "re" and the French "de".
        "re-": "R IY0",
        "un-": "AH0 N",
        "pre-": "P R IY0",
        "de-": "D IY0",
        "co-": "K OW0",
        "anti-": "AE2 N T IY0",
        # Telephony.
        "prepend": "P R IY0 P EH1 N D",
        "dahdi": "D AA1 D IY0",
        "digium": "D IH1 JH IY0 AH0 M",
        "unistim": "Y UW1 N AH0 S T IH2 M",
        "voip": "V OY1 P",
        "wifi": "W AY1 F AY2",
        # Interjections without a vowel letter that are not spelled out.
        "psst": "P S T",
        "brr": "B ER1",
        "grr": "G ER1",
        "pfft": "P F T",
        "mmm": "M",
        # Misspelled in the default corpus: unmute, descending, fortieth, exclamation, x-ray, ...
        "umute": "AH0 N M Y UW1 T",
        "decending": "D IH0 S EH1 N D IH0 NG",
        "fourtieth": "F AO1 R T IY0 AH0 TH",
        "exclaimation": "EH2 K S K L AH0 M EY1 SH AH0 N",
        "xray": "EH1 K S R EY2",
        "represenatives": "R EH2 P R IH0 Z EH1 N T AH0 T IH0 V Z",
        "indentified": "AY0 D EH1 N T AH0 F AY2 D",
        "witheld": "W IH0 TH HH EH1 L D",
    }
)

# Abbreviations that look like words in capitals: spelled out when in capitals among lower-case text.
SPELLED_IN_CAPITALS: Final = frozenset({"US", "IT", "AM", "PM", "TV", "PC", "ID"})
