"""The error of all text front ends and its reason codes."""

import unicodedata
from enum import StrEnum
from typing import Final

MAX_CHARACTERS: Final = 5000


class ReasonCode(StrEnum):
    """Reason why a text cannot be spoken; the values are what manifests record."""

    EMPTY = "no_speech"
    TOO_LONG = "too_long"
    UNREADABLE_CHARACTER = "unreadable_character"
    UNKNOWN_LANGUAGE = "unknown_language"
    UNKNOWN_SYMBOL = "unknown_symbol"
    INVALID_LEXICON = "invalid_lexicon"
    MISSING_RESOURCE = "missing_resource"
    MISALIGNED = "misaligned"


class TextError(ValueError):
    """Text that cannot be converted to phones.

    `reason_code` is for tables and `detail` for people. `characters` holds each unreadable character once.
    """

    def __init__(self, reason_code: str, detail: str, characters: str = "") -> None:
        self.reason_code = str(ReasonCode(reason_code))
        self.detail = detail
        self.characters = characters
        super().__init__(f"{self.reason_code}: {detail}")

    def __reduce__(self) -> tuple[type["TextError"], tuple[str, str, str]]:
        # Pickle passes only one argument to an exception by default, and workers return errors by pickle.
        return type(self), (self.reason_code, self.detail, self.characters)


def character_name(character: str) -> str:
    """Return a character as messages name it: '☃' (U+2603 SNOWMAN)."""
    return f"{character!r} (U+{ord(character):04X} {unicodedata.name(character, 'unnamed')})"


def check_length(text: str, limit: int = MAX_CHARACTERS) -> None:
    """Raise TextError too_long for a text with more than `limit` characters."""
    if len(text) > limit:
        raise TextError(ReasonCode.TOO_LONG, f"{len(text)} characters; at most {limit}")
