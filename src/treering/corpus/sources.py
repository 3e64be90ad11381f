"""The recipe's sources, whatever their kind: read, measured, and compared with what was read before."""

from collections.abc import Generator
from pathlib import Path

from treering.config.schema import BuiltinSource, DatasetSource, FileSource
from treering.corpus.documents import RawDocument, SourceRecord
from treering.corpus.huggingface import is_local, read_dataset
from treering.corpus.paths import digest_path, measure_path, read_path
from treering.corpus.sotu import measure_sotu, read_sotu
from treering.corpus.streams import read_errors
from treering.errors import CorpusError
from treering.provenance.progress import Task

AnySource = BuiltinSource | FileSource | DatasetSource


def read_source(source: AnySource, task: Task) -> Generator[RawDocument, None, SourceRecord]:
    """Yield a source's documents in order, and return the record of what was read.

    Raises:
        CorpusError: When it cannot be read as declared.
    """
    match source:
        case BuiltinSource():
            return read_sotu(source, task)
        case FileSource():
            return read_path(source, task)
        case DatasetSource():
            return read_dataset(source, task)


def measure_sources(sources: tuple[AnySource, ...]) -> int | None:
    """Return how many bytes will be read, or None where a data set of the Hub leaves it open.

    Raises:
        CorpusError: When a source is not there.
    """
    sizes = [_measure(source) for source in sources]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def refuse_changed_source(source: AnySource, recorded: SourceRecord, task: Task) -> None:
    """Do nothing when a source is still what the corpus was made from, or is gone.

    The builtin corpus and data sets of the Hub are pinned by the recipe and cannot change under it.

    Raises:
        CorpusError: When it is there and its content is another.
    """
    path = _place(source)
    if path is None or not _exists(path):
        return
    found = digest_path(path, task)
    if found != recorded.digest:
        raise CorpusError(
            "the source has changed since the corpus was made",
            where=path,
            expected=recorded.digest,
            found=found,
            advice="restore it; or give the recipe another name, which begins a new run with the source as it is now; "
            "or delete this run's corpus/ and everything made from it. Nothing has been lost",
        )


def _measure(source: AnySource) -> int | None:
    if isinstance(source, BuiltinSource):
        return measure_sotu(source)
    path = _place(source)
    return None if path is None else measure_path(path)


def _place(source: AnySource) -> str | None:
    """Return where on this machine a source lies, if the recipe says."""
    match source:
        case FileSource():
            return source.path
        case DatasetSource():
            return source.dataset if is_local(source) else None
        case BuiltinSource():
            return None


def _exists(path: str) -> bool:
    with read_errors(path):
        return Path(path).exists()
