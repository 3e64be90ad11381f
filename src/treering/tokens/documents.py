"""A run's documents as text: from the corpus, or, where the corpus is tokens, decoded when they are looked at."""

import operator
from collections.abc import Iterator
from pathlib import Path

from treering.corpus.data_sets import Part, recorded_parts
from treering.corpus.documents import Document, read_corpus_record
from treering.corpus.store import DocumentStore, Split
from treering.provenance.digests import digest_bytes
from treering.tokens.store import TokenStore, open_tokenizer


class DecodedDocuments:
    """The documents of a split whose corpus is tokens, EOD left out; bytes that are no UTF-8 are U+FFFD.

    Args:
        corpus: A run's `corpus/`.
        tokens: A run's `tokens/`.

    Raises:
        FormatError: When a file is missing or of another format.
        IntegrityError: When the tokenizer is not the one that the record speaks of.
    """

    def __init__(self, corpus: Path, tokens: Path, split: Split) -> None:
        self._parts = recorded_parts(read_corpus_record(corpus), split)
        self._store = TokenStore(tokens, split)
        self._tokenizer = open_tokenizer(tokens)

    def __len__(self) -> int:
        """Return the number of documents."""
        return self._store.documents

    def __getitem__(self, index: int) -> Document:
        """Return a document by its place; negative places count from the end.

        Raises:
            IndexError: When there is no such place.
        """
        place = operator.index(index)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(f"there are {len(self)} documents, there is no place {index}")
        text = self._tokenizer.decode_bytes(self._store.document(place)).decode(errors="replace")
        part, row = self._origin(place)
        return Document(digest_bytes(text.encode()), text, part.source, row, part.domain, {})

    def __iter__(self) -> Iterator[Document]:
        """Yield every document in order."""
        return (self[place] for place in range(len(self)))

    def _origin(self, place: int) -> tuple[Part, int]:
        for part in self._parts:
            if place < part.documents:
                return part, part.first + place
            place -= part.documents
        raise IndexError("the record of the corpus speaks of fewer documents than there are")


Documents = DocumentStore | DecodedDocuments


def open_documents(corpus: Path, tokens: Path, split: Split) -> Documents:
    """Return the documents of a split, whichever the corpus is of; opening it reads none of them.

    Args:
        corpus: A run's `corpus/`.
        tokens: A run's `tokens/`.

    Raises:
        FormatError: When a file is missing or of another format.
        IntegrityError: When the tokenizer is not the one that the record speaks of.
    """
    if recorded_parts(read_corpus_record(corpus), split):
        return DecodedDocuments(corpus, tokens, split)
    return DocumentStore(corpus, split)
