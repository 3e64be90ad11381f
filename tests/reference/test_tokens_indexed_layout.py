"""The indexed data set against a transcription of GPT-NeoX's layout that shares no code with treering's."""

import struct
from pathlib import Path

import numpy as np
import pytest

from treering.corpus.indexed import IndexedData, write_indexed

DOCUMENTS = [[7, 300, 0], [0], list(range(1, 60_000, 11)), [65_499, 0]]


def read_as_neox_does(prefix: Path) -> tuple[list[list[int]], list[int]]:
    """Return items and document starts, following `MMapIndexedDataset.Index` and `get` line by line."""
    types = {1: ("B", 1), 2: ("b", 1), 3: ("h", 2), 4: ("i", 4), 5: ("q", 8), 8: ("H", 2)}
    index, tokens = prefix.with_suffix(".idx").read_bytes(), prefix.with_suffix(".bin").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    assert struct.unpack_from("<Q", index, 9) == (1,)
    letter, width = types[index[17]]
    count, starts = struct.unpack_from("<Q", index, 18)[0], struct.unpack_from("<Q", index, 26)[0]
    sizes = struct.unpack_from(f"<{count}i", index, 34)
    pointers = struct.unpack_from(f"<{count}q", index, 34 + 4 * count)
    documents = struct.unpack_from(f"<{starts}q", index, 34 + 12 * count)
    assert len(index) == 34 + 12 * count + 8 * starts
    assert len(tokens) == width * sum(sizes)
    items = [list(struct.unpack_from(f"<{size}{letter}", tokens, at)) for size, at in zip(sizes, pointers, strict=True)]
    return items, list(documents)


def write_as_neox_does(prefix: Path, documents: list[list[int]], code: int, letter: str) -> None:
    """Write what `MMapIndexedDatasetBuilder` writes."""
    width, sizes = struct.calcsize(letter), [len(document) for document in documents]
    pointers = [width * sum(sizes[:number]) for number in range(len(sizes))]
    prefix.with_suffix(".bin").write_bytes(b"".join(struct.pack(f"<{len(d)}{letter}", *d) for d in documents))
    header = b"MMIDIDX\x00\x00" + struct.pack("<Q", 1) + struct.pack("<B", code)
    counts = struct.pack("<Q", len(sizes)) + struct.pack("<Q", len(sizes) + 1)
    lists = struct.pack(f"<{len(sizes)}i", *sizes) + struct.pack(f"<{len(sizes)}q", *pointers)
    ends = struct.pack(f"<{len(sizes) + 1}q", *range(len(sizes) + 1))
    prefix.with_suffix(".idx").write_bytes(header + counts + lists + ends)


@pytest.mark.parametrize(("token_type", "code", "letter"), [("uint16", 8, "H"), ("int32", 4, "i")])
def test_both_write_the_same_bytes_and_read_each_others(tmp_path: Path, token_type: str, code: int, letter: str) -> None:
    with write_indexed(tmp_path / "ours", token_type) as writer:
        for document in DOCUMENTS:
            writer.append(np.array(document), np.array([len(document)]))
    write_as_neox_does(tmp_path / "theirs", DOCUMENTS, code, letter)
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"ours{suffix}").read_bytes() == (tmp_path / f"theirs{suffix}").read_bytes()
    assert read_as_neox_does(tmp_path / "ours") == (DOCUMENTS, [0, 1, 2, 3, 4])
    assert IndexedData(tmp_path / "theirs").tokens.tolist() == [token for document in DOCUMENTS for token in document]
