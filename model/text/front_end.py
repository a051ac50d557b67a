"""Interface of a front end: text of one language to phones."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from model.text.phone_sequence import PhoneSequence

Lexicon = Mapping[str, Sequence[str] | str]


class FrontEnd(Protocol):
    """One language's way from text to phones. Deterministic; safe to share between threads."""

    @property
    def language(self) -> str: ...

    def normalise(self, text: str) -> str:
        """Text as it is spoken: numbers as words, readable characters only.

        Raises TextError: no_speech, too_long, unreadable_character with all of the text's unreadable characters.
        """

    def to_phones(self, normalised: str) -> PhoneSequence:
        """Phones of a normalised text. Raises TextError."""
