"""The tokens of a finished stage, memory-mapped, and the way back from a token to its document."""

from bisect import bisect_right
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from treering.corpus.indexed import IndexedData
from treering.corpus.store import Split
from treering.provenance.canonical import read_record
from treering.tokens.tokenizer import Tokenizer, load_tokenizer

TOKENIZER_FILE = "tokenizer.json"
RECORD_FILE = "tokens.json"
RECORD_FORMAT = ("tokens", 1)


class TokenStore:
    """The flat tokens of one split, each document followed by EOD.

    Args:
        directory: A run's `tokens/`, or any folder with `SPLIT.bin` and `SPLIT.idx`, one item per document.

    Raises:
        FormatError: When the files are missing, are of another format, or do not fit each other.
    """

    def __init__(self, directory: Path, split: Split) -> None:
        self._data = IndexedData(directory / split)
        self._data.refuse_other_documents()

    @property
    def tokens(self) -> NDArray[np.integer]:
        """All tokens of all documents, uint16 or int32 [tokens], read from the disk where they are looked at."""
        return self._data.tokens

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self._data.sizes)

    @cached_property
    def document_starts(self) -> NDArray[np.int64]:
        """The first token of each document, int64 [documents]."""
        return np.asarray(self._data.pointers // self._data.dtype.itemsize, dtype=np.int64)

    def document(self, number: int) -> NDArray[np.integer]:
        """Return the tokens of a document, its EOD among them.

        Raises:
            IndexError: When there is no such document.
        """
        start, stop = self.place_of(number)
        return self.tokens[start:stop]

    def place_of(self, number: int) -> tuple[int, int]:
        """Return which of all tokens [start, stop) are a document's.

        Raises:
            IndexError: When there is no such document.
        """
        if not 0 <= number < self.documents:
            raise IndexError(f"document {number} is not in [0, {self.documents})")
        return int(self._data.pointers[number]) // self._data.dtype.itemsize, self._end_of(number)

    def document_at(self, token_index: int) -> int:
        """Return the number of the document that holds a token, in about log₂(documents) reads.

        Raises:
            IndexError: When there is no such token.
        """
        if not 0 <= token_index < len(self.tokens):
            raise IndexError(f"token {token_index} is not in [0, {len(self.tokens)})")
        # Not np.searchsorted: the index is unaligned on the disk, and it would copy all of it.
        return bisect_right(self._data.pointers, token_index * self._data.dtype.itemsize) - 1

    def spans(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Return what the tokens [start, stop) are made of: (document number, first token, last token + 1), in order.

        Raises:
            IndexError: When the range is not within the tokens.
        """
        if not 0 <= start <= stop <= len(self.tokens):
            raise IndexError(f"tokens [{start}, {stop}) are not in [0, {len(self.tokens)})")
        found: list[tuple[int, int, int]] = []
        number = self.document_at(start) if start < stop else 0
        while start < stop:
            end = min(stop, self._end_of(number))
            found += [(number, start, end)] if start < end else []  # a document may be empty
            number, start = number + 1, end
        return found

    def _end_of(self, number: int) -> int:
        return int(self._data.pointers[number]) // self._data.dtype.itemsize + int(self._data.sizes[number])


def open_tokenizer(directory: Path) -> Tokenizer:
    """Return the tokenizer of a finished stage, with the special tokens that its record names.

    Args:
        directory: A run's `tokens/`.

    Raises:
        FormatError: When there is no record, or of another version.
        InputError: When there is no tokenizer.
        IntegrityError: When it is not the one that the record speaks of.
    """
    described = read_record(directory / RECORD_FILE, *RECORD_FORMAT)["tokenizer"]
    return load_tokenizer(
        directory / TOKENIZER_FILE,
        end_of_document=described["end_of_document"],
        padding=described["padding"],
        digest=described["digest"],
    )
