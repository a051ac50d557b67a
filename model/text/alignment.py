"""Which word-piece of the language model each phone takes its feature from."""

from collections.abc import Sequence

from model.text.errors import ReasonCode, TextError

Span = tuple[int, int]


def phones_to_tokens(
    word_spans: Sequence[Span], word2ph: Sequence[int], token_offsets: Sequence[Span]
) -> list[int]:
    """The token index of each of the P = sum(word2ph) + 2 phones, the two pads included.

    Spans and offsets are character ranges [start, end) in the same normalised text, in order; token_offsets
    holds the opening and closing special tokens too, whose ranges are empty. The first pad takes the first
    token, the last pad the last. A word of m phones that k tokens cover gives phone j the token start +
    floor(j·k / m); a word that no token covers takes the nearest token before it. Raises TextError misaligned
    when lengths do not fit.
    """
    if len(word_spans) != len(word2ph):
        raise TextError(
            ReasonCode.MISALIGNED, f"{len(word_spans)} word spans but {len(word2ph)} phone counts"
        )
    if len(token_offsets) < 2:
        raise TextError(
            ReasonCode.MISALIGNED, f"{len(token_offsets)} tokens; expected at least the two special ones"
        )
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


def with_blanks(indices: Sequence[int]) -> list[int]:
    """Token indices for P phones with blanks around each: 2P + 1 entries.

    The blank before the first phone belongs to it, every other blank to the phone before it.
    """
    if not indices:
        raise TextError(ReasonCode.MISALIGNED, "no phones to put blanks around")
    return [indices[0], *(index for index in indices for _ in range(2))]
