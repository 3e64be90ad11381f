"""Documents: one text with its id and where it comes from, and the line it is stored as."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from treering.provenance.canonical import canonical_json, read_record

LARGEST_DOCUMENT_BYTES = 256 << 20

RECORD_FILE, RECORD_FORMAT = "corpus.json", ("corpus", 1)

Scalar = str | int | float | bool | None


class RawDocument(NamedTuple):
    """One text as its source has it, not yet normalised.

    `row` counts from 0 in `source`; `where` is how an error names the place, such as file and line.
    """

    text: str
    source: str
    row: int
    domain: str | None
    metadata: Mapping[str, Scalar]
    where: str


class SourceRecord(NamedTuple):
    """What was read from one source of the recipe, known when it has been read to its end."""

    source: str
    kind: str
    digest: str | None
    documents_read: int
    bytes_read: int


@dataclass(frozen=True)
class Document:
    """One text of the corpus; `id` is the digest of its UTF-8 bytes, `row` counts from 0 in `source`."""

    id: str
    text: str
    source: str
    row: int
    domain: str | None
    metadata: Mapping[str, Scalar]

    def line(self) -> bytes:
        """Return the line of JSON that the document is stored as, with its line feed.

        Raises:
            UnicodeEncodeError: When a string in it holds a lone surrogate.
        """
        return canonical_json(vars(self)) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Document":
        """Return the document that a line stores.

        Raises:
            ValueError: When the line is not JSON in UTF-8, or has not a document's fields.
        """
        fields = json.loads(line.decode())
        if not isinstance(fields, dict) or fields.keys() != cls.__dataclass_fields__.keys():
            raise ValueError("a line holds id, text, source, row, domain and metadata")
        return cls(**fields)


def read_corpus_record(directory: Path) -> dict[str, Any]:
    """Return the record of a finished corpus.

    Args:
        directory: A run's `corpus/`.

    Raises:
        FormatError: When there is none, or of another version.
    """
    return read_record(directory / RECORD_FILE, *RECORD_FORMAT)


def is_held_out(document_id: str, validation_fraction: float) -> bool:
    """Return whether a document belongs to the validation split: a function of its text and the fraction alone.

    Exact: the first eight bytes of the digest, big-endian, are compared with the fraction times 2⁶⁴, which a float holds
    exactly, so nothing is rounded.
    """
    first_bytes = document_id.removeprefix("sha256:")[:16]
    return int(first_bytes, 16) < validation_fraction * 2.0**64
