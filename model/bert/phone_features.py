"""Expansion of token features to phones, shared by training and inference.

Legend: B batch, P phones with pads, L spans, C channels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def token_rows(
    phone_tokens: npt.NDArray[np.integer], n_phones: npt.NDArray[np.integer], n_tokens: npt.NDArray[np.integer]
) -> IntArray:
    """Return the row of each phone's features (phones,) in the tokens of L consecutive spans, preceded by a row of
    zeros.

    phone_tokens (phones,): index of each phone's token in its span; n_phones, n_tokens (L,). Phones of a span without
    tokens get row 0. Raises IndexError for a token that its span does not have.
    """
    available = np.repeat(n_tokens, n_phones)
    beyond = (available > 0) & ((phone_tokens < 0) | (phone_tokens >= available))
    if beyond.any():
        first = int(np.argmax(beyond))
        raise IndexError(f"a phone takes token {phone_tokens[first]} of a span of {available[first]} tokens")
    first_rows = 1 + np.cumsum(n_tokens) - n_tokens
    return np.where(available > 0, phone_tokens + np.repeat(first_rows, n_phones), 0)


def expand_to_phones(
    features: npt.NDArray[np.float16], rows: IntArray, add_blank: bool, out: npt.NDArray[np.float16] | None = None
) -> npt.NDArray[np.float16]:
    """Return the features (B, P, C) at `rows` (B, P), with blanks (B, 2P + 1, C); written into `out` if given.

    The first blank belongs to the first phone, every other one to the phone before it.
    """
    if add_blank:
        rows = rows[:, np.maximum(np.arange(2 * rows.shape[1] + 1) - 1, 0) // 2]
    # NumPy's default mode would first write to a temporary array.
    return features.take(rows, axis=0, out=out, mode="clip")
