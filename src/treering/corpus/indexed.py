"""GPT-NeoX's indexed data set: the tokens of documents in `NAME.bin`, their sizes and places in `NAME.idx`.

`.bin` holds the tokens alone, one document after another. `.idx` holds, little-endian and packed: the magic, the version
(uint64), the token type's code (uint8), the number of items and of document starts (uint64 each), the items' sizes in
tokens (int32), their places in `.bin` in bytes (int64), and the documents' first items with the end of the last (int64).
Here each item is one document.

Source:
    GPT-NeoX (EleutherAI), `megatron/data/indexed_dataset.py`, class `MMapIndexedDataset`.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
from numpy.typing import NDArray

from treering.errors import CorpusError, FormatError, InputError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "uint16": 8}  # 6 and 7 differ between NeoX and Megatron

_HEADER = struct.Struct("<9sQBQQ")
_LARGEST_SIZE = np.iinfo(np.int32).max
_BLOCK_ITEMS = 1 << 16


class IndexedWriter:
    """Takes documents' tokens in order; memory does not grow with them. Made by `write_indexed`."""

    def __init__(self, token_type: str, tokens_file: IO[bytes], sizes_file: IO[bytes]) -> None:
        self._dtype = np.dtype(token_type).newbyteorder("<")
        self._tokens_file, self._sizes_file = tokens_file, sizes_file
        self.documents = self.tokens = 0

    def append(self, tokens: NDArray[np.integer], sizes: NDArray[np.integer]) -> None:
        """Append some documents.

        Args:
            tokens: Their tokens, one document after another; each value one that the token type holds.
            sizes: How many tokens each has.

        Raises:
            ValueError: When the sizes do not add up to the tokens.
            CorpusError: When a document has more tokens than the format can say.
        """
        if int(sizes.sum()) != len(tokens):
            raise ValueError(f"documents of {int(sizes.sum())} tokens in all, but {len(tokens)} tokens")
        if len(sizes) and sizes.max() > _LARGEST_SIZE:
            raise CorpusError(
                "a document is too long", expected=f"at most {_LARGEST_SIZE} tokens", found=int(sizes.max()), advice="split it"
            )
        # Not ndarray.tofile: on a full disk it raises an OSError without the number that says so.
        self._tokens_file.write(tokens.astype(self._dtype, copy=False).tobytes())
        self._sizes_file.write(sizes.astype("<i4", copy=False).tobytes())
        self.documents += len(sizes)
        self.tokens += len(tokens)

    def write_index(self, file: IO[bytes]) -> None:
        """Write the index of all that was appended."""
        file.write(_HEADER.pack(MAGIC, VERSION, CODES[self._dtype.name], self.documents, self.documents + 1))
        for sizes in self._blocks_of_sizes():
            file.write(sizes.tobytes())
        pointer = 0
        for sizes in self._blocks_of_sizes():
            ends = pointer + np.cumsum(sizes, dtype="<i8") * self._dtype.itemsize
            file.write((ends - sizes.astype("<i8") * self._dtype.itemsize).astype("<i8").tobytes())
            pointer = int(ends[-1])
        for start in range(0, self.documents + 1, _BLOCK_ITEMS):
            file.write(np.arange(start, min(start + _BLOCK_ITEMS, self.documents + 1), dtype="<i8").tobytes())

    def _blocks_of_sizes(self) -> Iterator[NDArray[np.int32]]:
        self._sizes_file.seek(0)
        while block := self._sizes_file.read(4 * _BLOCK_ITEMS):
            yield np.frombuffer(block, dtype="<i4")


@contextmanager
def write_indexed(prefix: Path, token_type: str) -> Iterator[IndexedWriter]:
    """Give a writer of `PREFIX.bin`; `PREFIX.idx` is written when the block ends without an error.

    Args:
        token_type: A name in `CODES`.
    """
    with _beside(prefix, ".bin").open("wb") as tokens_file, TemporaryFile(dir=prefix.parent) as sizes_file:
        writer = IndexedWriter(token_type, tokens_file, sizes_file)
        yield writer
        with _beside(prefix, ".idx").open("wb") as index_file:
            writer.write_index(index_file)


@dataclass(frozen=True)
class IndexedPart:
    """Some consecutive documents of a data set: `sizes` and `pointers` are theirs, `tokens` and places are of all of it."""

    path: Path
    dtype: np.dtype
    tokens: NDArray[np.integer]
    sizes: NDArray[np.integer]
    pointers: NDArray[np.integer]


class IndexedData:
    """An indexed data set, memory-mapped: `tokens` flat, `sizes` and `pointers` one per item, `document_index`.

    GPT-NeoX takes items for documents, whatever the document index says: its own tool for merging leaves that as it was of
    the first data set, others write none.

    Raises:
        FormatError: When a file is missing, is of another format, or the two do not fit each other.
    """

    def __init__(self, prefix: Path) -> None:
        self.path = _beside(prefix, ".idx")
        self.dtype, items, starts = _read_header(self.path)
        sizes_end = _HEADER.size + 4 * items
        pointers_end = sizes_end + 8 * items
        self._expect("bytes in the index", pointers_end + 8 * starts, self.path.stat().st_size)
        self.sizes = _map(self.path, "<i4", _HEADER.size, items)
        self.pointers = _map(self.path, "<i8", sizes_end, items)
        self.document_index = _map(self.path, "<i8", pointers_end, starts)
        size_bytes = self._size_of_tokens()
        tokens_path = _beside(prefix, ".bin")
        self._expect(f"bytes in {tokens_path.name}", size_bytes, _size_of(tokens_path))
        self.tokens = _map(tokens_path, self.dtype, 0, size_bytes // self.dtype.itemsize)

    def refuse_scattered(self) -> None:
        """Do nothing where every item begins where the one before ends.

        Raises:
            FormatError: When one does not.
        """
        end = 0
        for start in range(0, len(self.sizes), _BLOCK_ITEMS):
            sizes = np.asarray(self.sizes[start : start + _BLOCK_ITEMS], dtype=np.int64) * self.dtype.itemsize
            expected = end + np.cumsum(sizes) - sizes
            if (odd := np.flatnonzero((self.pointers[start : start + _BLOCK_ITEMS] != expected) | (sizes < 0))).size:
                number = start + int(odd[0])
                raise FormatError(
                    "a document does not begin where the one before ends",
                    where=f"{self.path}, document {number}",
                    expected=f"byte {expected[odd[0]]}",
                    found=f"byte {self.pointers[number]}, of {self.sizes[number]} tokens",
                )
            end = int(expected[-1] + sizes[-1])

    def part(self, documents: range) -> IndexedPart:
        """Return some consecutive documents."""
        rows = slice(documents.start, documents.stop)
        return IndexedPart(self.path, self.dtype, self.tokens, self.sizes[rows], self.pointers[rows])

    def refuse_other_documents(self) -> None:
        """Do nothing where each item is a document by the document index too.

        Raises:
            FormatError: When it says otherwise.
        """
        items = len(self.sizes)
        if len(self.document_index) == 0:
            raise FormatError("this index lists no document starts", where=self.path, expected="at least one")
        self._expect("first item of the first document", 0, int(self.document_index[0]))
        self._expect("items up to the end of the last document", items, int(self.document_index[-1]))
        if items != len(self.document_index) - 1:
            raise FormatError(
                "this data set's items are not documents",
                where=self.path,
                expected=len(self.document_index) - 1,
                found=items,
            )

    def _size_of_tokens(self) -> int:
        """Check the first place, and return the bytes of tokens that the index speaks of."""
        if len(self.sizes) == 0:
            return 0
        self._expect("place of the first item", 0, int(self.pointers[0]))
        return int(self.pointers[-1]) + int(self.sizes[-1]) * self.dtype.itemsize

    def _expect(self, what: str, expected: int, found: int) -> None:
        if expected != found:
            raise FormatError(f"this index does not fit: {what}", where=self.path, expected=expected, found=found)


def _read_header(path: Path) -> tuple[np.dtype, int, int]:
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
    except FileNotFoundError as error:
        raise FormatError("there is no such index", where=path) from error
    if not header.startswith(MAGIC):
        raise FormatError("this is not an index of tokens", where=path, expected=MAGIC, found=header[: len(MAGIC)])
    if len(header) < _HEADER.size:
        raise FormatError("this index is cut off", where=path, expected=f"{_HEADER.size} bytes of header", found=len(header))
    _, version, code, items, starts = _HEADER.unpack(header)
    if version != VERSION:
        raise FormatError("this index has another version", where=path, expected=VERSION, found=version)
    names = [name for name, known in CODES.items() if known == code]
    if not names:
        known = ", ".join(f"{code} ({name})" for name, code in CODES.items())
        raise FormatError("this index has tokens of an unknown type", where=path, expected=known, found=code)
    return np.dtype(names[0]).newbyteorder("<"), items, starts


def _map(path: Path, dtype: str | np.dtype, offset: int, count: int) -> NDArray[np.integer]:
    if count == 0:
        return np.empty(0, dtype=dtype)  # an empty file cannot be mapped
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,)).view(np.ndarray)


def data_set_files(prefix: Path) -> tuple[Path, Path]:
    """Return where a data set's tokens and its index lie.

    Raises:
        InputError: When the prefix is no file's name.
    """
    return _beside(prefix, ".bin"), _beside(prefix, ".idx")


def _size_of(path: Path) -> int:
    if not path.exists():
        raise FormatError("the tokens of this index are missing", where=path)
    return path.stat().st_size


def _beside(prefix: Path, suffix: str) -> Path:
    if not prefix.name:
        raise InputError("this is no name of a data set", where=prefix, expected="its files less `.bin` and `.idx`")
    return prefix.with_name(prefix.name + suffix)
