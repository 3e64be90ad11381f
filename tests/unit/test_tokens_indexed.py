"""The indexed data set: written in pieces, read whole; and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from treering.corpus.indexed import IndexedData, IndexedWriter, write_indexed
from treering.errors import CorpusError


def write(prefix: Path, documents: list[list[int]], token_type: str = "uint16") -> IndexedWriter:
    """Write documents one by one."""
    with write_indexed(prefix, token_type) as writer:
        for document in documents:
            writer.append(np.array(document, dtype=np.uint32), np.array([len(document)]))
    return writer


@pytest.mark.parametrize("token_type", ["uint16", "int32"])
def test_what_is_written_is_read(tmp_path: Path, token_type: str) -> None:
    writer = write(tmp_path / "train", [[5, 6, 0], [0], [65_499, 0]], token_type)
    data = IndexedData(tmp_path / "train")
    assert (data.dtype.name, data.tokens.dtype.itemsize) == (token_type, np.dtype(token_type).itemsize)
    assert data.tokens.tolist() == [5, 6, 0, 0, 65_499, 0]
    assert data.sizes.tolist() == [3, 1, 2]
    assert (data.pointers // data.dtype.itemsize).tolist() == [0, 3, 4]
    assert data.document_index.tolist() == [0, 1, 2, 3]
    assert (writer.documents, writer.tokens) == (3, 6)


def test_nothing_but_the_two_files_is_left(tmp_path: Path) -> None:
    write(tmp_path / "train", [[1, 0]])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.bin", "train.idx"]


def test_a_data_set_without_documents_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "validation", [])
    data = IndexedData(tmp_path / "validation")
    assert (len(data.tokens), len(data.sizes), data.document_index.tolist()) == (0, 0, [0])


def test_documents_appended_together_or_alone_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "alone", [[1, 2, 0], [3, 0], [0]])
    with write_indexed(tmp_path / "together", "uint16") as writer:
        writer.append(np.array([1, 2, 0, 3, 0, 0]), np.array([3, 2, 1]))
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"alone{suffix}").read_bytes() == (tmp_path / f"together{suffix}").read_bytes()


def test_more_documents_than_a_block_are_indexed_right(tmp_path: Path) -> None:
    sizes = np.arange(200_000) % 3 + 1
    with write_indexed(tmp_path / "train", "int32") as writer:
        writer.append(np.zeros(sizes.sum(), dtype=np.int32), sizes)
    data = IndexedData(tmp_path / "train")
    assert np.array_equal(data.sizes, sizes)
    assert np.array_equal(data.pointers // 4, np.cumsum(sizes) - sizes)
    assert np.array_equal(data.document_index, np.arange(200_001))


def test_an_error_while_writing_leaves_no_index(tmp_path: Path) -> None:
    with pytest.raises(KeyError), write_indexed(tmp_path / "train", "uint16"):
        raise KeyError
    assert not (tmp_path / "train.idx").exists()


def test_sizes_that_do_not_add_up_to_the_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 tokens in all, but 2"), write_indexed(tmp_path / "train", "uint16") as writer:
        writer.append(np.array([1, 0]), np.array([3]))


def test_a_document_longer_than_the_format_can_say_is_refused(tmp_path: Path) -> None:
    tokens = np.broadcast_to(np.uint16(0), 2**31)  # 2³¹ tokens in two bytes of memory
    with pytest.raises(CorpusError, match="too long"), write_indexed(tmp_path / "train", "uint16") as writer:
        writer.append(tokens, np.array([2**31]))
