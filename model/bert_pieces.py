"""BERT features of one span of an utterance on their phones: the one way that training and inference share.

Legend: B batch, P phones with pads (and blanks), C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.text.alignment import with_blanks


@dataclass(frozen=True)
class BertPiece:
    """A span's features per token (tokens, C) fp16, and the token that each phone from `first_phone` on takes (P of the span,)."""

    language: str
    first_phone: int
    features: npt.NDArray[np.float16]
    index: npt.NDArray[np.int64]


def bert_piece(
    language: str, first_phone: int, phone_tokens: Sequence[int], features: npt.NDArray[np.float16], add_blank: bool
) -> BertPiece:
    """Return a span's piece; `first_phone` and `phone_tokens` count phones with pads and without blanks.

    With blanks the one before the utterance's first phone belongs to that phone, every other one to the phone before it.
    """
    if not add_blank:
        return BertPiece(language, first_phone, features, np.array(phone_tokens, dtype=np.int64))
    spaced = with_blanks(phone_tokens)
    opening = first_phone == 0
    return BertPiece(language, 0 if opening else 2 * first_phone + 1, features, np.array(spaced if opening else spaced[1:], dtype=np.int64))


def spread(
    pieces_of_utterances: Sequence[Sequence[BertPiece]], bert_channels: Mapping[str, int], n_phones: int
) -> dict[str, npt.NDArray[np.float16]]:
    """Return language → features (B, P, C) of B utterances: zero where a phone has none in that language.

    A language that is missing from `bert_channels` is left out.
    """
    planes = {name: np.zeros((len(pieces_of_utterances), n_phones, size), dtype=np.float16) for name, size in bert_channels.items()}
    for row, pieces in enumerate(pieces_of_utterances):
        for piece in pieces:
            if piece.language in planes:
                planes[piece.language][row, piece.first_phone : piece.first_phone + len(piece.index)] = piece.features[piece.index]
    return planes
