"""Shards: the documents of a split as lines in files of bounded size, and the offset of each line."""

import struct
from pathlib import Path
from typing import BinaryIO

from treering.corpus.documents import LARGEST_DOCUMENT_BYTES

SHARD_BYTES = LARGEST_DOCUMENT_BYTES
OFFSET = struct.Struct("<QQ")  # shard number, byte offset of the line in it


def shard_path(directory: Path, split: str, number: int) -> Path:
    """Return the path of a shard."""
    return directory / f"{split}-{number:05d}.jsonl"


def offsets_path(directory: Path, split: str) -> Path:
    """Return the path of a split's offsets."""
    return directory / f"{split}.offsets"


class ShardWriter:
    """Writes the lines of one split; a line that would make a shard too large begins the next one.

    Args:
        shard_bytes: The most bytes a shard holds; a single longer line has one to itself.

    Raises:
        OSError: When a file cannot be written.
    """

    def __init__(self, directory: Path, split: str, shard_bytes: int = SHARD_BYTES) -> None:
        self._directory = directory
        self._split = split
        self._shard_bytes = shard_bytes
        self._number = 0
        self._size_bytes = 0
        self._shard = self._open()
        self._offsets = offsets_path(directory, split).open("wb")

    def write(self, line: bytes) -> None:
        """Write a line and its offset.

        Raises:
            OSError: When a file cannot be written.
        """
        if self._size_bytes and self._size_bytes + len(line) > self._shard_bytes:
            self._shard.close()
            self._number, self._size_bytes = self._number + 1, 0
            self._shard = self._open()
        self._offsets.write(OFFSET.pack(self._number, self._size_bytes))
        self._shard.write(line)
        self._size_bytes += len(line)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._shard.close()
        finally:
            self._offsets.close()

    def _open(self) -> BinaryIO:
        return shard_path(self._directory, self._split, self._number).open("wb", buffering=1 << 20)
