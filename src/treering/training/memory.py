"""The C library's allocator: memory that is freed is kept for the next update."""

import ctypes

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MAPPED_BLOCKS = -1, -4


def keep_memory() -> None:
    """Have glibc keep freed memory instead of giving it back and fetching it again, page by page, in every update.

    It changes no bit. Other C libraries have no such switch and are left alone.
    """
    switch = getattr(ctypes.CDLL(None), "mallopt", None)
    if switch is not None:
        switch(_MAPPED_BLOCKS, 0)
        switch(_TRIM_THRESHOLD, -1)
