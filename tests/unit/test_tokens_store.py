"""The token store: the way back from a token to its document."""

from pathlib import Path

import numpy as np
import pytest

from treering.corpus.indexed import write_indexed
from treering.tokens.store import TokenStore


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    with write_indexed(tmp_path / "train", "uint16") as writer:
        writer.append(np.array([5, 6, 0, 0, 7, 0]), np.array([3, 1, 2]))
    return TokenStore(tmp_path, "train")


def test_tokens_lie_flat_with_all_documents_one_after_another(store: TokenStore) -> None:
    assert store.tokens.tolist() == [5, 6, 0, 0, 7, 0]
    assert (store.tokens.ndim, store.tokens.dtype, store.documents) == (1, np.uint16, 3)
    assert (store.document_starts.tolist(), store.document_starts.dtype) == ([0, 3, 4], np.int64)


def test_tokens_cannot_be_written_to(store: TokenStore) -> None:
    with pytest.raises(ValueError, match="read-only"):
        store.tokens[0] = 1


def test_every_token_has_its_document(store: TokenStore) -> None:
    assert [store.document_at(token) for token in range(6)] == [0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize("token", [-1, 6])
def test_a_token_that_is_not_there_has_no_document(store: TokenStore, token: int) -> None:
    with pytest.raises(IndexError, match=rf"token {token} is not in \[0, 6\)"):
        store.document_at(token)


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 6, [(0, 0, 3), (1, 3, 4), (2, 4, 6)]),
        (1, 5, [(0, 1, 3), (1, 3, 4), (2, 4, 5)]),
        (3, 4, [(1, 3, 4)]),
        (2, 2, []),
        (6, 6, []),
    ],
)
def test_spans_name_the_documents_of_a_range(store: TokenStore, start: int, stop: int, expected: list) -> None:
    assert store.spans(start, stop) == expected


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 7)])
def test_a_range_outside_the_tokens_has_no_spans(store: TokenStore, start: int, stop: int) -> None:
    with pytest.raises(IndexError, match="are not in"):
        store.spans(start, stop)
