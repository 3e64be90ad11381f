"""Freed memory is used again instead of being fetched anew."""

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
