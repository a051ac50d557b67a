"""Memory allocator settings of this process; no result depends on them."""

from __future__ import annotations

import ctypes

MEBIBYTE = 1 << 20
KEPT_BYTES = 128 * MEBIBYTE
LARGEST_KEPT_BYTES = 32 * MEBIBYTE  # glibc's maximum for allocations on its heap
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD


def keep_freed_memory() -> None:
    """Keep up to KEPT_BYTES of freed memory for the next array instead of returning it to the system.

    Page faults on a clip's new arrays take as long as decoding it. Does nothing where the C library is not glibc.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    set_option(_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
    set_option(_TRIM_THRESHOLD, KEPT_BYTES)
