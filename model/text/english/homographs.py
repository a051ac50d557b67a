"""Words pronounced differently as verb and noun, disambiguated by the preceding word.

Only highly reliable cues are used: a determiner precedes a noun; "to", a modal or a subject pronoun precedes a verb,
and so does the start of a clause if a determiner follows ("Record your name"). Otherwise the dictionary's first reading
is used.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from model.text.word_lists import as_words

VERB_CUES: Final = as_words(
    "to will would can could should must may might shall cannot please don't can't won't i'll you'll we'll "
    "they'll "
    "he'll she'll it'll let's i you we they who didn't doesn't couldn't wouldn't shouldn't did does do"
)
# After these words only, "read" may be the past tense.
SUBJECTS: Final = as_words("i you we they who")
CLAUSE_STARTS: Final = frozenset({None, "and", "or", "then"})
NOUN_CUES: Final = as_words(
    "a an the this that these those my your his her its our their no any every each some another which new "
    "old first "
    "last of in"
)
DETERMINERS: Final = as_words("a an the this that these those my your his her its our their it them me us all")


class HomographReadings(NamedTuple):
    """ARPAbet readings of a word as a verb and as a noun or adjective."""

    verb: str
    noun: str


HOMOGRAPHS: Final[Mapping[str, HomographReadings]] = MappingProxyType(
    {
        "record": HomographReadings("R AH0 K AO1 R D", "R EH1 K ER0 D"),
        "records": HomographReadings("R AH0 K AO1 R D Z", "R EH1 K ER0 D Z"),
        "use": HomographReadings("Y UW1 Z", "Y UW1 S"),
        "increase": HomographReadings("IH2 N K R IY1 S", "IH1 N K R IY2 S"),
        "decrease": HomographReadings("D IH0 K R IY1 S", "D IY1 K R IY2 S"),
        "reject": HomographReadings("R IH0 JH EH1 K T", "R IY1 JH EH0 K T"),
        "transfer": HomographReadings("T R AE0 N S F ER1", "T R AE1 N S F ER0"),
        "permit": HomographReadings("P ER0 M IH1 T", "P ER1 M IH2 T"),
        "present": HomographReadings("P R IY0 Z EH1 N T", "P R EH1 Z AH0 N T"),
        "object": HomographReadings("AH0 B JH EH1 K T", "AA1 B JH EH0 K T"),
        "project": HomographReadings("P R AH0 JH EH1 K T", "P R AA1 JH EH0 K T"),
        "contract": HomographReadings("K AH0 N T R AE1 K T", "K AA1 N T R AE2 K T"),
        "conduct": HomographReadings("K AH0 N D AH1 K T", "K AA1 N D AH0 K T"),
        "conflict": HomographReadings("K AH0 N F L IH1 K T", "K AA1 N F L IH0 K T"),
        "convert": HomographReadings("K AH0 N V ER1 T", "K AA1 N V ER0 T"),
        "insert": HomographReadings("IH2 N S ER1 T", "IH1 N S ER2 T"),
        "import": HomographReadings("IH2 M P AO1 R T", "IH1 M P AO2 R T"),
        "export": HomographReadings("IH0 K S P AO1 R T", "EH1 K S P AO0 R T"),
        "refund": HomographReadings("R IH0 F AH1 N D", "R IY1 F AH2 N D"),
        "refuse": HomographReadings("R AH0 F Y UW1 Z", "R EH1 F Y UW2 Z"),
        "suspect": HomographReadings("S AH0 S P EH1 K T", "S AH1 S P EH2 K T"),
        "upset": HomographReadings("AH0 P S EH1 T", "AH1 P S EH2 T"),
        "excuse": HomographReadings("IH0 K S K Y UW1 Z", "IH0 K S K Y UW1 S"),
        "abuse": HomographReadings("AH0 B Y UW1 Z", "AH0 B Y UW1 S"),
        "house": HomographReadings("HH AW1 Z", "HH AW1 S"),
        "close": HomographReadings("K L OW1 Z", "K L OW1 S"),
        "live": HomographReadings("L IH1 V", "L AY1 V"),
        "separate": HomographReadings("S EH1 P ER0 EY2 T", "S EH1 P ER0 AH0 T"),
        "duplicate": HomographReadings("D UW1 P L AH0 K EY2 T", "D UW1 P L AH0 K AH0 T"),
        "estimate": HomographReadings("EH1 S T AH0 M EY2 T", "EH1 S T AH0 M AH0 T"),
        "produce": HomographReadings("P R AH0 D UW1 S", "P R OW1 D UW2 S"),
        "progress": HomographReadings("P R AH0 G R EH1 S", "P R AA1 G R EH2 S"),
        "protest": HomographReadings("P R AH0 T EH1 S T", "P R OW1 T EH2 S T"),
        "rebel": HomographReadings("R IH0 B EH1 L", "R EH1 B AH0 L"),
        "desert": HomographReadings("D IH0 Z ER1 T", "D EH1 Z ER0 T"),
        "tear": HomographReadings("T EH1 R", "T IH1 R"),
        "wind": HomographReadings("W AY1 N D", "W IH1 N D"),
        "content": HomographReadings("K AH0 N T EH1 N T", "K AA1 N T EH0 N T"),
        "attribute": HomographReadings("AH0 T R IH1 B Y UW2 T", "AE1 T R AH0 B Y UW2 T"),
    }
)

# Present and past of "read" are spelled alike; the dictionary lists the past first.
READ_PRESENT: Final = "R IY1 D"


def homograph_reading(word: str, previous: str | None, following: str | None) -> str | None:
    """Return the ARPAbet reading of a lower-case word that its neighbours determine; None if they do not.

    previous is the preceding word ("not" skipped), None after a pause; following is None before a pause.
    """
    imperative = previous in CLAUSE_STARTS and following in DETERMINERS
    if word == "read":
        return READ_PRESENT if imperative or (previous in VERB_CUES and previous not in SUBJECTS) else None
    readings = HOMOGRAPHS.get(word)
    if readings is None:
        return None
    if imperative or previous in VERB_CUES:
        return readings.verb
    return readings.noun if previous in NOUN_CUES else None
