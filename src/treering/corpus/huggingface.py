"""Sources that are data sets of the Hugging Face `datasets` library, streamed row by row."""

import hashlib
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from treering.config.schema import DatasetSource
from treering.corpus.documents import RawDocument, SourceRecord
from treering.corpus.paths import digest_path
from treering.corpus.rows import document_of_row
from treering.errors import CorpusError
from treering.provenance.canonical import canonical_json
from treering.provenance.progress import Task


def read_dataset(source: DatasetSource, task: Task) -> Generator[RawDocument, None, SourceRecord]:
    """Yield the document of each row, and return what was read: its digest and the size of its texts.

    A local folder's digest is that of its files, a Hub data set's that of what was read from its rows.

    Raises:
        CorpusError: When the data set cannot be opened or read, or a row has no text.
    """
    name, bytes_read, documents_read = name_of(source), 0, 0
    state = hashlib.sha256()
    local_digest = digest_path(source.dataset, task) if is_local(source) else None
    for row, fields in enumerate(_rows(source, name)):
        raw = document_of_row(fields, source, source=name, row=row, where=f"{name} row {row}")
        state.update(canonical_json([raw.text, raw.domain, raw.metadata]) + b"\n")
        size_bytes = len(raw.text.encode())
        task.advance(0 if local_digest else size_bytes)
        bytes_read, documents_read = bytes_read + size_bytes, documents_read + 1
        yield raw
    return SourceRecord(name, "dataset", local_digest or f"sha256:{state.hexdigest()}", documents_read, bytes_read)


def is_local(source: DatasetSource) -> bool:
    """Return whether the data set is a folder of this machine, which needs no revision."""
    return source.dataset.startswith((".", "/"))


def name_of(source: DatasetSource) -> str:
    """Return `dataset@revision/configuration/split`, each part where there is one: rows count from 0 in a split."""
    pinned = source.dataset if source.revision is None else f"{source.dataset}@{source.revision}"
    return "/".join(part for part in (pinned.rstrip("/"), source.configuration, source.split) if part)


def _rows(source: DatasetSource, name: str) -> Iterator[Mapping[str, Any]]:
    import datasets  # noqa: PLC0415 - it takes seconds to import, and few corpora need it
    from datasets.exceptions import DatasetsError  # noqa: PLC0415

    try:
        yield from datasets.load_dataset(
            source.dataset, source.configuration, split=source.split, revision=source.revision, streaming=True
        )
    except (DatasetsError, OSError, ValueError) as error:
        raise CorpusError(
            "this data set cannot be read",
            where=name,
            found=f"{type(error).__name__}: {error}",
            advice="check its name, revision, configuration and split, and the connection to the Hub",
        ) from error
