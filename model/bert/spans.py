"""Spans of one language in a text, and the mapping from phones to the tokens of their span."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from model.text.errors import ReasonCode, TextError

Span = tuple[int, int]


def phones_to_tokens(word_spans: Sequence[Span], word2ph: Sequence[int], token_offsets: Sequence[Span]) -> list[int]:
    """Return the token index of each of the P = sum(word2ph) + 2 phones, both pads included.

    Spans and offsets are character ranges [start, end) in the same normalised text, in order; token_offsets includes
    the opening and closing special tokens, whose ranges are empty. The first pad takes the first token, the last pad
    the last. A word of m phones covered by k tokens gives phone j the token start + floor(j·k / m); a word that no
    token covers takes the nearest token before it. Raises TextError misaligned if lengths do not match.
    """
    if len(word_spans) != len(word2ph):
        raise TextError(ReasonCode.MISALIGNED, f"{len(word_spans)} word spans but {len(word2ph)} phone counts")
    if len(token_offsets) < 2:
        raise TextError(ReasonCode.MISALIGNED, f"{len(token_offsets)} tokens; expected at least the two special ones")
    last_token = len(token_offsets) - 1
    indices = [0]
    next_token = 1
    for (word_start, word_end), phone_count in zip(word_spans, word2ph, strict=True):
        while next_token < last_token and token_offsets[next_token][1] <= word_start:
            next_token += 1
        end_token = next_token
        while end_token < last_token and token_offsets[end_token][0] < word_end:
            end_token += 1
        token_count = end_token - next_token
        if token_count == 0:
            indices.extend([next_token - 1] * phone_count)
        else:
            indices.extend(next_token + phone * token_count // phone_count for phone in range(phone_count))
    indices.append(last_token)
    return indices


@dataclass(frozen=True)
class LanguageSpan:
    """Consecutive words of one language, encoded together as one text.

    text: the characters from the first word's start to the last word's end. word_spans: [start, end) in `text`.
    first_phone: index of the span's first phone among the utterance's phones with pads; the opening pad belongs to the
    first span (`opens`), the closing pad to the last (`closes`).
    """

    language: str
    text: str
    word_spans: tuple[Span, ...]
    word2ph: tuple[int, ...]
    first_phone: int
    opens: bool
    closes: bool

    @property
    def n_phones(self) -> int:
        """Return the number of phones of the span, including the pads that belong to it."""
        return sum(self.word2ph) + self.opens + self.closes

    def phone_tokens(self, token_offsets: Sequence[Span]) -> list[int]:
        """Return the token index of each of the span's `n_phones` phones; offsets are in the span's text.

        An opening pad takes the first token, a closing pad the last. Raises TextError misaligned.
        """
        indices = phones_to_tokens(self.word_spans, self.word2ph, token_offsets)
        return indices[0 if self.opens else 1 : len(indices) if self.closes else -1]


def language_spans(
    normalised: str, word_spans: Sequence[Span], word2ph: Sequence[int], word_languages: Sequence[str]
) -> list[LanguageSpan]:
    """Split an utterance's words into spans of one language, in order; together they cover every phone and both pads.

    Raises TextError misaligned if lengths do not match, if there are no words, or if words lie outside the text.
    """
    if not len(word_spans) == len(word2ph) == len(word_languages) > 0:
        raise TextError(
            ReasonCode.MISALIGNED,
            f"{len(word_spans)} word spans, {len(word2ph)} phone counts and {len(word_languages)} languages of words",
        )
    borders = [
        0,
        *(word for word in range(1, len(word_languages)) if word_languages[word] != word_languages[word - 1]),
        len(word_languages),
    ]
    spans: list[LanguageSpan] = []
    first_phone = 0
    for first, end in pairwise(borders):
        start, stop = word_spans[first][0], word_spans[end - 1][1]
        if not 0 <= start <= stop <= len(normalised):
            raise TextError(
                ReasonCode.MISALIGNED, f"words at characters {start} to {stop} of a text of {len(normalised)}"
            )
        spans.append(
            LanguageSpan(
                word_languages[first],
                normalised[start:stop],
                tuple((a - start, b - start) for a, b in word_spans[first:end]),
                tuple(word2ph[first:end]),
                first_phone,
                opens=first == 0,
                closes=end == len(word_languages),
            )
        )
        first_phone += spans[-1].n_phones
    return spans
