"""Text to phones with the user lexicon, shared by the clean_text stage and inference.

The user lexicon overrides every front end, for the text's language and for embedded words of other languages. A text's
reading depends only on the lexicon entries that occur in it: `lexicon_entries` selects them, `read_text` uses them.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

from model.text.errors import ReasonCode, TextError, character_name
from model.text.front_end import FrontEnd
from model.text.lexicon import Lexicon, entries_in
from model.text.phone_sequence import PhoneSequence
from model.text.registry import get_front_end

_NO_ENTRIES: Lexicon = {}


@dataclass(frozen=True)
class Reading:
    """Normalised text, its phones, and the unreadable characters that were dropped, each once."""

    normalised: str
    sequence: PhoneSequence
    dropped: str = ""

    @property
    def note(self) -> str:
        """Return a remark on the reading for the manifest; empty if there is none."""
        return f"dropped {_listed(self.dropped)}" if self.dropped else ""


def read_text(text: str, language: str, entries: Lexicon = _NO_ENTRIES, *, drop_unreadable: bool = False) -> Reading:
    """Convert a text to phones with the lexicon entries that apply to it (`lexicon_entries`).

    With `drop_unreadable`, unreadable characters are dropped; otherwise they raise TextError unreadable_character.
    Raises TextError: no_speech, too_long, unknown_language, invalid_lexicon, missing_resource.
    """
    front_end = _front_end(language, _frozen(entries.get(language, {})))
    normalised, dropped = normalise_readable(front_end, text) if drop_unreadable else (_normalise(front_end, text), "")
    sequence = front_end.to_phones(normalised)
    if not sequence.languages:
        sequence = replace(sequence, languages=(language,) * len(sequence.words))
    for embedded in sorted(set(sequence.languages) - {language}):
        if entries.get(embedded):
            sequence = _reread(sequence, normalised, embedded, entries[embedded])
    return Reading(normalised, sequence, dropped)


def lexicon_entries(lexicon: Lexicon, languages: Iterable[str], *texts: str) -> dict[str, dict[str, str]]:
    """Return the lexicon entries that apply to a text: those of the given languages that occur in `texts`.

    Pass the written text and, if it can be read without the lexicon, its normalised form: "twenty" occurs in "21".
    """
    return entries_in({code: lexicon[code] for code in languages if code in lexicon}, *texts)


def read_with_lexicon(text: str, language: str, lexicon: Lexicon) -> Reading:
    """Convert a text to phones with a whole lexicon; raises the errors of `read_text`."""
    try:
        plain = read_text(text, language)
    except TextError:
        entries = lexicon_entries(lexicon, [language], text)
        if not entries:
            raise
    else:
        entries = lexicon_entries(lexicon, {language, *plain.sequence.languages}, text, plain.normalised)
    return read_text(text, language, entries) if entries else plain


def normalise_readable(front_end: FrontEnd, text: str) -> tuple[str, str]:
    """Return (normalised text, unreadable characters that were dropped, each once).

    Raises TextError for every other problem.
    """
    dropped = ""
    while True:
        try:
            return _normalise(front_end, text), dropped
        except TextError as error:
            if error.reason_code == ReasonCode.UNREADABLE_CHARACTER:
                text, left_out = _without(text, error.characters)
                if left_out:
                    dropped += left_out
                    continue
            if dropped:
                raise TextError(
                    error.reason_code, f"{error.detail}, after dropping {_listed(dropped)}", error.characters
                ) from None
            raise


def _normalise(front_end: FrontEnd, text: str) -> str:
    surrogates = "".join(dict.fromkeys(character for character in text if unicodedata.category(character) == "Cs"))
    # Surrogates come from undecodable bytes; libraries that encode to UTF-8 fail on them.
    if surrogates:
        raise TextError(
            ReasonCode.UNREADABLE_CHARACTER, f"{character_name(surrogates[0])} is a lone surrogate", surrogates
        )
    return front_end.normalise(text)


def _without(text: str, unreadable: str) -> tuple[str, str]:
    """Return the text without the characters that are, or decompose to, unreadable ones, and the characters removed."""
    text = unicodedata.normalize("NFC", text)
    targets = set(unreadable)
    left_out = [
        one
        for one in dict.fromkeys(text)
        if targets & {one, *unicodedata.normalize("NFKD", one), *unicodedata.normalize("NFKC", one)}
    ]
    return text.translate({ord(one): None for one in left_out}), "".join(left_out)


def _reread(sequence: PhoneSequence, normalised: str, language: str, entries: Mapping[str, str]) -> PhoneSequence:
    """Return the sequence with every run of words of an embedded language read again, with that language's lexicon."""
    front_end = _front_end(language, _frozen(entries))
    phones: list[str] = []
    tones: list[int] = []
    word2ph: list[int] = []
    first_word = first_phone = 0
    for code, group in groupby(sequence.languages):
        end_word = first_word + len(list(group))
        end_phone = first_phone + sum(sequence.word2ph[first_word:end_word])
        part = (
            sequence.phones[first_phone:end_phone],
            sequence.tones[first_phone:end_phone],
            sequence.word2ph[first_word:end_word],
        )
        if code == language:
            start, end = sequence.word_spans[first_word][0], sequence.word_spans[end_word - 1][1]
            anew = front_end.to_phones(normalised[start:end])
            if anew.words == sequence.words[first_word:end_word]:
                part = (anew.phones, anew.tones, anew.word2ph)
        phones += part[0]
        tones += part[1]
        word2ph += part[2]
        first_word, first_phone = end_word, end_phone
    return replace(sequence, phones=tuple(phones), tones=tuple(tones), word2ph=tuple(word2ph))


@lru_cache(maxsize=256)
def _front_end(language: str, entries: tuple[tuple[str, str], ...]) -> FrontEnd:
    return get_front_end(language, dict(entries)) if entries else get_front_end(language)


def _frozen(entries: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(entries.items()))


def _listed(characters: str) -> str:
    return ", ".join(f"{character!r} (U+{ord(character):04X})" for character in characters)
