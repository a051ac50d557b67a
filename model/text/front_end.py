"""Interface of the language front ends: text to phones."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from model.text.phone_sequence import PhoneSequence

WordReadings = Mapping[str, Sequence[str] | str]


class FrontEnd(Protocol):
    """Front end of one language. Deterministic; safe to share between threads."""

    @property
    def language(self) -> str: ...

    def normalise(self, text: str) -> str:
        """Return the text as it is spoken: numbers as words, readable characters only.

        Raises TextError: no_speech, too_long, unreadable_character with all unreadable characters of the text.
        """

    def to_phones(self, normalised: str) -> PhoneSequence:
        """Return the phones of a normalised text. Raises TextError."""
