"""The one error that turning text into phones can raise, and every reason for it."""

import unicodedata
from enum import StrEnum
from typing import Final

MAX_CHARACTERS: Final = 5000


class ReasonCode(StrEnum):
    """Why a text can't be spoken; the values are what manifests record."""

    EMPTY = "no_speech"
    TOO_LONG = "too_long"
    UNREADABLE_CHARACTER = "unreadable_character"
    UNKNOWN_LANGUAGE = "unknown_language"
    UNKNOWN_SYMBOL = "unknown_symbol"
    INVALID_LEXICON = "invalid_lexicon"
    MISSING_RESOURCE = "missing_resource"
    MISALIGNED = "misaligned"


class TextError(ValueError):
    """A text that can't become phones.

    `reason_code` is for tables, `detail` for people; `characters` are all those that an unreadable text holds, each
    once.
    """

    def __init__(self, reason_code: str, detail: str, characters: str = "") -> None:
        self.reason_code = str(ReasonCode(reason_code))
        self.detail = detail
        self.characters = characters
        super().__init__(f"{self.reason_code}: {detail}")

    def __reduce__(self) -> tuple[type["TextError"], tuple[str, str, str]]:
        # Worker processes send errors back by pickle, which would otherwise pass one argument only.
        return type(self), (self.reason_code, self.detail, self.characters)


def character_name(character: str) -> str:
    """A character as messages name it: '☃' (U+2603 SNOWMAN)."""
    return f"{character!r} (U+{ord(character):04X} {unicodedata.name(character, 'unnamed')})"


def check_length(text: str, limit: int = MAX_CHARACTERS) -> None:
    """Refuse a text of more characters than a front end takes: TextError too_long."""
    if len(text) > limit:
        raise TextError(ReasonCode.TOO_LONG, f"{len(text)} characters; at most {limit}")
