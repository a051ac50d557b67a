"""How this process's memory is managed; no result depends on it."""

from __future__ import annotations

import ctypes

MEBIBYTE = 1 << 20
KEPT_BYTES = 128 * MEBIBYTE
LARGEST_KEPT_BYTES = 32 * MEBIBYTE  # the most that glibc takes from its heap
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD


def keep_freed_memory() -> None:
    """Let the next array have the memory of the one before it, up to KEPT_BYTES, instead of giving it back to the
    system each time.

    Fetching each page of a clip's arrays anew takes as long as decoding it. Does nothing where the C library is not
    glibc.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    set_option(_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
    set_option(_TRIM_THRESHOLD, KEPT_BYTES)
