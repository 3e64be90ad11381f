"""Token files that are not what they say: each alteration is seen, with the numbers."""

import struct
from pathlib import Path

import numpy as np
import pytest

from treering.corpus.indexed import IndexedData, write_indexed
from treering.errors import FormatError
from treering.tokens.store import TokenStore

MAGIC, VERSION, CODE, ITEMS, STARTS, SIZES = 0, 9, 17, 18, 26, 34


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    with write_indexed(tmp_path / "train", "uint16") as writer:
        writer.append(np.array([5, 6, 0, 7, 0]), np.array([3, 2]))
    IndexedData(tmp_path / "train")
    return tmp_path / "train"


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Replace some bytes of a file."""
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (MAGIC, b"X", "not an index of tokens"),
        (VERSION, struct.pack("<Q", 2), r"another version\n  expected: 1\n  found:    2"),
        (CODE, b"\x07", r"unknown type\n  expected: 1 \(uint8\).*\n  found:    7"),
        (CODE, b"\x04", r"bytes in train.bin\n  expected: 14\n  found:    10"),
        (ITEMS, struct.pack("<Q", 3), r"bytes in the index\n  expected: 94\n  found:    82"),
        (ITEMS, struct.pack("<Q", 2**60), "bytes in the index"),
        (STARTS, struct.pack("<Q", 2), "bytes in the index"),
        (SIZES + 4, struct.pack("<i", 3), r"bytes in train.bin\n  expected: 12\n  found:    10"),
        (SIZES + 8, struct.pack("<q", 2), r"place of the first item\n  expected: 0\n  found:    2"),
        (SIZES + 8 + 8, struct.pack("<q", 4), r"bytes in train.bin\n  expected: 8\n  found:    10"),
        (SIZES + 8 + 16, struct.pack("<q", 1), "first item of the first document"),
        (SIZES + 8 + 32, struct.pack("<q", 3), r"end of the last document\n  expected: 2\n  found:    3"),
    ],
)
def test_an_altered_index_is_refused(prefix: Path, offset: int, content: bytes, message: str) -> None:
    overwrite(prefix.with_name("train.idx"), offset, content)
    with pytest.raises(FormatError, match=message):
        TokenStore(prefix.parent, "train")


@pytest.mark.parametrize(("size", "message"), [(0, "not an index"), (20, "cut off"), (40, "bytes in the index")])
def test_a_cut_index_is_refused(prefix: Path, size: int, message: str) -> None:
    path = prefix.with_name("train.idx")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(FormatError, match=message):
        IndexedData(prefix)


@pytest.mark.parametrize("content", [b"", b"\x05\x00", b"\x05\x00" * 6])
def test_tokens_cut_off_or_added_are_seen(prefix: Path, content: bytes) -> None:
    prefix.with_name("train.bin").write_bytes(content)
    with pytest.raises(FormatError, match=rf"bytes in train.bin\n  expected: 10\n  found:    {len(content)}"):
        IndexedData(prefix)


@pytest.mark.parametrize(("suffix", "message"), [(".idx", "no such index"), (".bin", "tokens of this index are missing")])
def test_a_missing_file_is_named(prefix: Path, suffix: str, message: str) -> None:
    prefix.with_name(f"train{suffix}").unlink()
    with pytest.raises(FormatError, match=message):
        IndexedData(prefix)


def test_a_data_set_whose_items_are_not_documents_is_no_store_of_documents(prefix: Path) -> None:
    path = prefix.with_name("train.idx")
    path.write_bytes(path.read_bytes()[:-8])
    overwrite(path, STARTS, struct.pack("<Q", 2))
    overwrite(path, SIZES + 8 + 24, struct.pack("<q", 2))
    assert IndexedData(prefix).document_index.tolist() == [0, 2]
    with pytest.raises(FormatError, match=r"items are not documents\n  expected: 1\n  found:    2"):
        TokenStore(prefix.parent, "train")
