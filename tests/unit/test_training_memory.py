"""Freed memory is used again instead of being fetched anew, or is given back, as asked."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from treering.training.memory import keep_memory

if sys.argv[1] == "kept":
    keep_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(b"1") * (64 << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    del block
"""


def faults(how: str) -> list[int]:
    """How many pages each of three blocks of 64 MiB fetched."""
    result = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return [int(line) for line in result.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the switch")
def test_the_second_block_fetches_nothing_only_where_memory_is_kept() -> None:
    pages = (64 << 20) // 4096
    first, second, third = faults("kept")
    assert first > pages // 2
    assert second < pages // 100
    assert third < pages // 100
    assert min(faults("not kept")) > pages // 2


HOLES = """
import ctypes, sys
from pathlib import Path
from treering.training.memory import give_back_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "given back":
    give_back_memory()
malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype, malloc.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
free(malloc(16 << 20))  # from now on glibc, left alone, takes smaller blocks from its heap
before, blocks = resident(), []
for _ in range(32):
    blocks.append(malloc(2 << 20))
    ctypes.memset(blocks[-1], 1, 2 << 20)
    ctypes.memset(malloc(1000), 1, 1000)  # lives on
for block in blocks:
    free(block)
print(resident() - before)
"""


def left(how: str) -> int:
    """How many bytes of 64 MiB are still there when all have been freed but a little between them."""
    result = subprocess.run([sys.executable, "-c", HOLES, how], capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the switch")
def test_blocks_between_what_lives_on_are_given_back_only_where_that_was_asked_for() -> None:
    assert left("given back") < 4 << 20
    assert left("left alone") > 32 << 20
