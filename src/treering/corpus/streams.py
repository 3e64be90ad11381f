"""Bytes from files: digested as they pass, decompressed, and cut into lines of valid UTF-8."""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import zstandard

from treering.corpus.documents import LARGEST_DOCUMENT_BYTES
from treering.errors import CorpusError
from treering.provenance.progress import Task

BLOCK_BYTES = 1 << 20
_COMPRESSED_BLOCK_BYTES = 8 << 10  # however hostile the file, so much decompresses to at most 256 MiB
_LARGEST_WINDOW_BYTES = 1 << 31


@contextmanager
def read_errors(name: str) -> Iterator[None]:
    """Turn a refusal to read into a CorpusError, so that it is not taken for one to write.

    Raises:
        CorpusError: When the operating system cannot open or read the place.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise CorpusError(
            "there is no such file or folder",
            where=name,
            advice=f"a path is relative to the folder treering is started in, here {Path.cwd()}",
        ) from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CorpusError("this cannot be read", where=name, found=reason, advice="mend the file or its permissions") from error


class DigestedFile(io.RawIOBase):
    """A file read once from its start, its digest and size taken as the bytes pass.

    Args:
        name: What the corpus calls the file; it stands in errors and as the `source` of documents.
        task: Told of every byte read.

    Raises:
        CorpusError: When it cannot be opened or, later, read.
    """

    def __init__(self, path: Path, name: str, task: Task) -> None:
        self.path = path
        self.name = name
        self.size_bytes = 0
        self._task = task
        self._state = hashlib.sha256()
        with read_errors(name):
            self._file = path.open("rb", buffering=0)

    def readable(self) -> bool:
        """Return True: a source is read."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fill the buffer with the next bytes and return how many there were."""
        with read_errors(self.name):
            count = self._file.readinto(buffer) or 0
        with memoryview(buffer) as view:
            self._state.update(view[:count])
        self.size_bytes += count
        self._task.advance(count)
        return count

    def content(self) -> bytes:
        """Read whatever is left and return it."""
        return b"".join(iter(lambda: self.read(BLOCK_BYTES), b""))

    def digest(self) -> str:
        """Read whatever is left and return the digest of the whole file."""
        while self.read(BLOCK_BYTES):
            pass
        return "sha256:" + self._state.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class ZstandardStream(io.RawIOBase):
    """The decompressed bytes of a file of zstandard frames, however many.

    A file that ends inside a frame is an error here; the library's own stream would end without a word.
    """

    def __init__(self, file: DigestedFile) -> None:
        self._file = file
        self._library = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW_BYTES)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._compressed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Return True: the stream is read."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fill the buffer with the next decompressed bytes and return how many there were.

        Raises:
            CorpusError: When the file is not zstandard, is damaged, or ends too early.
        """
        while not self._ready:
            if not self._compressed:
                self._compressed = self._file.read(_COMPRESSED_BLOCK_BYTES) or b""
            if not self._compressed:
                return self._end()
            self._decompress()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _decompress(self) -> None:
        if self._frame is None:
            self._frame = self._library.decompressobj()
        try:
            self._ready = memoryview(self._frame.decompress(self._compressed))
        except zstandard.ZstdError as error:
            raise CorpusError("this file is not whole zstandard", where=self._file.name, found=error) from error
        self._compressed = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None

    def _end(self) -> int:
        if self._frame is not None:
            raise CorpusError(
                "this compressed file ends too early",
                where=self._file.name,
                found=f"the end of the file inside a frame, after {self._file.size_bytes} bytes",
                advice="fetch or copy it again",
            )
        return 0


def lines(stream: io.RawIOBase, name: str) -> Iterator[tuple[int, str]]:
    """Yield each line of a UTF-8 stream with its number from 1 and its line feed; only a line feed ends a line.

    A byte-order mark at the start is no text and is left out.

    Raises:
        CorpusError: When a line is not UTF-8, or is larger than a document may be.
    """
    buffered = io.BufferedReader(stream, BLOCK_BYTES)
    yield from _lines(buffered, name)
    buffered.detach()  # else the stream would be closed with it, before its digest is asked for


def _lines(buffered: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    start = number = 0
    while line := buffered.readline(LARGEST_DOCUMENT_BYTES + 1):
        number += 1
        if len(line) > LARGEST_DOCUMENT_BYTES:
            raise too_large(f"{name}:{number}")
        text = decode(line, name, first_line=number, first_byte=start)
        start += len(line)
        yield number, text.removeprefix("\ufeff") if number == 1 else text


def decode(content: bytes, name: str, *, first_line: int = 1, first_byte: int = 0) -> str:
    """Return bytes as the text they are in UTF-8.

    Args:
        first_line: Number of the line in the file that the bytes begin with.
        first_byte: Offset in the file that they begin at.

    Raises:
        CorpusError: When they are not UTF-8; it names line and offset.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise CorpusError(
            "this is not UTF-8 text",
            where=f"{name}:{line}",
            found=f"{error.reason} 0x{content[error.start]:02x} at byte {first_byte + error.start} of the text",
            advice="convert the file to UTF-8, for example with iconv",
        ) from error


def too_large(where: str) -> CorpusError:
    """Return the error of a document that no shard could hold."""
    return CorpusError(
        "this document is too large",
        where=where,
        expected=f"at most {LARGEST_DOCUMENT_BYTES} bytes",
        advice="split it; a large text file can be read with `documents: paragraph` or `documents: line`",
    )
