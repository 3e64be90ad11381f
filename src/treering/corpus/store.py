"""The document store: any document of a split by its place in the corpus, without reading the others."""

import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from treering.corpus.documents import Document
from treering.corpus.shards import OFFSET, offsets_path, shard_path
from treering.errors import FormatError

Split = Literal["train", "validation"]


class DocumentStore:
    """The documents of one split, in corpus order; opening it reads none of them.

    Args:
        directory: A run's `corpus` folder.

    Raises:
        FormatError: When the split's offsets are missing or not whole.
    """

    def __init__(self, directory: Path, split: Split) -> None:
        self._directory = directory
        self._split = split
        self._offsets = _map_offsets(offsets_path(directory, split))

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._offsets)

    def __getitem__(self, index: int) -> Document:
        """Return a document by its place, with one seek; negative places count from the end.

        Raises:
            IndexError: When there is no such place.
            FormatError: When the shard is missing or does not hold a document there.
        """
        place = operator.index(index)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(f"{self._split} has {len(self)} documents, there is no place {index}")
        return next(self.read(place, place + 1))

    def __iter__(self) -> Iterator[Document]:
        """Yield every document in corpus order."""
        return self.read(0, len(self))

    def read(self, start: int, stop: int) -> Iterator[Document]:
        """Yield the documents at places [start, stop), reading their shards in one go.

        Raises:
            FormatError: When a shard is missing or does not hold a document where its offset says.
        """
        while start < stop:
            number = int(self._offsets[start, 0])
            after = int(np.searchsorted(self._offsets[start:stop, 0], number, side="right")) + start
            yield from self._read_shard(number, int(self._offsets[start, 1]), after - start)
            start = after

    def _read_shard(self, number: int, offset: int, count: int) -> Iterator[Document]:
        path = shard_path(self._directory, self._split, number)
        try:
            with path.open("rb") as file:
                if offset >= path.stat().st_size:  # it may be one that no file can have
                    raise FormatError("there is no document here", where=f"{path} byte {offset}")
                file.seek(offset)
                for _ in range(count):
                    start = file.tell()
                    yield _parse(file.readline(), path, start)
        except FileNotFoundError as error:
            raise FormatError("this shard is missing", where=path) from error


def _parse(line: bytes, path: Path, offset: int) -> Document:
    try:
        return Document.from_line(line)
    except ValueError as error:
        raise FormatError("there is no document here", where=f"{path} byte {offset}", found=error) from error


def _map_offsets(path: Path) -> np.ndarray:
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise FormatError("the offsets of this split are missing", where=path) from error
    if size_bytes == 0 or size_bytes % OFFSET.size:
        raise FormatError("these offsets are not whole", where=path, expected="pairs of 8 bytes", found=f"{size_bytes} bytes")
    return np.memmap(path, dtype="<u8", mode="r").reshape(-1, 2)
