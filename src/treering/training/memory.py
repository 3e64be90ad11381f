"""The C library's allocator: what becomes of memory that is freed."""

import ctypes

# From glibc's malloc.h, and its value for the number of blocks of their own.
_TRIM_THRESHOLD, _MAPPED_FROM, _MAPPED_BLOCKS = -1, -3, -4
_MANY_BLOCKS = 65536
_MEBIBYTE = 1 << 20


def keep_memory() -> None:
    """Have glibc keep freed memory instead of giving it back and fetching it again, page by page, in every update.

    It changes no bit. Other C libraries have no such switch and are left alone.
    """
    _switch({_MAPPED_BLOCKS: 0, _TRIM_THRESHOLD: -1})


def give_back_memory() -> None:
    """Have glibc give every block of 1 MiB or more back as it is freed.

    Otherwise what is gathered for a moment stays as holes between what lives on. It changes no bit. Other C libraries have no
    such switch and are left alone.
    """
    _switch({_MAPPED_BLOCKS: _MANY_BLOCKS, _MAPPED_FROM: _MEBIBYTE, _TRIM_THRESHOLD: _MEBIBYTE})


def _switch(values: dict[int, int]) -> None:
    switch = getattr(ctypes.CDLL(None), "mallopt", None)
    if switch is not None:
        for parameter, value in values.items():
            switch(parameter, value)
