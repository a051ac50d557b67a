"""BERT features of one span of an utterance on their phones: the one way that training and inference share.

Legend: B batch, P phones with pads (and blanks), C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class BertPiece:
    """A span's features per token (tokens, C) fp16, and the token that each phone from `first_phone` on takes (P of the span,)."""

    language: str
    first_phone: int
    features: npt.NDArray[np.float16]
    index: npt.NDArray[np.int64]


def bert_piece(
    language: str, first_phone: int, phone_tokens: npt.ArrayLike, features: npt.NDArray[np.float16], add_blank: bool
) -> BertPiece:
    """Return a span's piece; `first_phone` and `phone_tokens` count phones with pads and without blanks.

    With blanks the one before the utterance's first phone belongs to that phone, every other one to the phone before it.
    """
    index = np.asarray(phone_tokens, dtype=np.int64)
    if not add_blank:
        return BertPiece(language, first_phone, features, index)
    spaced = np.repeat(index, 2)
    if first_phone:
        return BertPiece(language, 2 * first_phone + 1, features, spaced)
    return BertPiece(language, 0, features, np.concatenate([index[:1], spaced]))


def spread(
    pieces_of_utterances: Sequence[Sequence[BertPiece]], bert_channels: Mapping[str, int], n_phones: int,
    zeros: Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]] = np.zeros,
) -> dict[str, npt.NDArray[np.float16]]:  # fmt: skip
    """Return language → features (B, P, C) of B utterances: zero where a phone has none in that language.

    A language that is missing from `bert_channels` is left out. `zeros` makes the arrays.
    """
    planes = {name: zeros((len(pieces_of_utterances), n_phones, size), np.dtype(np.float16)) for name, size in bert_channels.items()}
    for row, pieces in enumerate(pieces_of_utterances):
        for piece in pieces:
            if piece.language in planes:
                planes[piece.language][row, piece.first_phone : piece.first_phone + len(piece.index)] = piece.features.take(piece.index, axis=0)
    return planes
