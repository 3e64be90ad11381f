"""Sources that are tokens already: counted, digested and split; what is in them is read by the stage of the tokens."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from treering.config.schema import CorpusSection
from treering.corpus.documents import SourceRecord
from treering.corpus.indexed import IndexedData, data_set_files
from treering.corpus.store import Split
from treering.corpus.streams import BLOCK_BYTES, DigestedFile, read_errors
from treering.errors import CorpusError
from treering.provenance.digests import digest_value
from treering.provenance.progress import SILENCE, Progress, Task

KIND = "indexed data set"


class DataSet(NamedTuple):
    """One data set of the recipe: its prefix, the digest that pins it, whether all of it is held out."""

    prefix: Path
    digest: str | None
    held_out: bool


class Part(NamedTuple):
    """Documents [first, first + documents) of a data set, which belong to one split."""

    source: str
    split: Split
    first: int
    documents: int
    domain: str | None

    @property
    def range(self) -> range:
        """Their numbers in the data set."""
        return range(self.first, self.first + self.documents)


def data_sets(corpus: CorpusSection) -> Iterator[DataSet]:
    """Yield a corpus's data sets in the recipe's order, each followed by the one that is held out for it."""
    for source in corpus.indexed:
        yield DataSet(Path(source.neox), source.digest, held_out=False)
        if source.validation is not None:
            yield DataSet(Path(source.validation), source.validation_digest, held_out=True)


def describe_data_sets(corpus: CorpusSection, progress: Progress = SILENCE) -> dict[str, Any]:
    """Return the record of a corpus of data sets: what each is, and which of its documents belong to which split.

    Raises:
        CorpusError: When one cannot be read, is not what its digest says, or leaves nothing to train on or to hold out.
        FormatError: When one is no indexed data set.
    """
    found = list(data_sets(corpus))
    size_bytes = sum(_size_bytes(data_set.prefix) for data_set in found)
    parts = list(_parts(corpus))
    with progress.task("corpus", size_bytes, "bytes") as task:
        digests = [_digests(data_set.prefix, task) for data_set in found]
    sources = [_record(data_set, digest_value(own)) for data_set, own in zip(found, digests, strict=True)]
    _refuse_trained_on(found, sources)
    counts = {split: _count(split, parts) for split in ("train", "validation")}
    domains = Counter[str]()
    for part in parts:
        domains.update({part.domain: part.documents} if part.domain is not None else {})
    tokens = [
        {"source": source.source, "digest": dict(own)[".bin"], "token_type": IndexedData(Path(source.source)).dtype.name}
        for source, own in zip(sources, digests, strict=True)
    ]
    recorded = {"sources": [source._asdict() for source in sources], "tokens": tokens}
    return {**recorded, "parts": [part._asdict() for part in parts], **counts, "domains": dict(domains)}


def refuse_changed_data_sets(corpus: CorpusSection, record: dict[str, Any], progress: Progress = SILENCE) -> None:
    """Do nothing when a corpus's data sets are still what its record says, or are gone.

    Raises:
        CorpusError: When one is there and its content is another.
    """
    if not corpus.indexed:
        return
    recorded = [SourceRecord(**source) for source in record["sources"]]
    with progress.task("corpus: data sets unchanged?", None, "bytes") as task:
        for data_set, earlier in zip(data_sets(corpus), recorded, strict=True):
            _refuse_changed(data_set, earlier, task)


def _refuse_changed(data_set: DataSet, recorded: SourceRecord, task: Task) -> None:
    with read_errors(str(data_set.prefix)):
        there = all(path.exists() for path in data_set_files(data_set.prefix))
    if there and (found := digest_data_set(data_set.prefix, task)) != recorded.digest:
        raise CorpusError(
            "the data set has changed since the corpus was made",
            where=data_set.prefix,
            expected=recorded.digest,
            found=found,
            advice="restore it; or give the recipe another name, which begins a new run with the data set as it is now",
        )


def digest_data_set(prefix: Path, task: Task) -> str:
    """Return the digest of a data set's content, whatever it is called: of the digests of its tokens and its index.

    Raises:
        CorpusError: When a file cannot be read.
    """
    return digest_value(_digests(prefix, task))


def _digests(prefix: Path, task: Task) -> list[list[str]]:
    digests = []
    for path in data_set_files(prefix):
        with DigestedFile(path, str(path), task) as file:
            while file.read(BLOCK_BYTES):
                pass
            digests.append([path.suffix, file.digest()])
    return digests


def _refuse_trained_on(found: list[DataSet], sources: list[SourceRecord]) -> None:
    """Refuse a data set that is held out under one name and trained on under another."""
    trained = {source.digest: source.source for data_set, source in zip(found, sources, strict=True) if not data_set.held_out}
    for data_set, source in zip(found, sources, strict=True):
        if data_set.held_out and source.digest in trained:
            raise CorpusError(
                "this data set is held out and trained on",
                where=source.source,
                expected="another content than that of every data set to train on",
                found=f"that of {trained[source.digest]}",
            )


def recorded_parts(record: dict[str, Any], split: Split) -> list[Part]:
    """Return the parts of a split, in the order in which its documents are numbered; none where the corpus is text."""
    return [part for part in (Part(**fields) for fields in record.get("parts", [])) if part.split == split]


def _parts(corpus: CorpusSection) -> Iterator[Part]:
    for source in corpus.indexed:
        documents = len(IndexedData(Path(source.neox)).sizes)
        if source.validation is not None:
            yield Part(source.neox, "train", 0, documents, source.domain)
            held_out = len(IndexedData(Path(source.validation)).sizes)
            yield Part(source.validation, "validation", 0, held_out, source.domain)
            continue
        trained = round((1.0 - corpus.validation_fraction) * documents)  # as GPT-NeoX's `split` rounds
        yield Part(source.neox, "train", 0, trained, source.domain)
        yield Part(source.neox, "validation", trained, documents - trained, source.domain)


def _record(data_set: DataSet, digest: str) -> SourceRecord:
    data = IndexedData(data_set.prefix)
    if data_set.digest not in (None, digest):
        raise CorpusError(
            "the content is not what the recipe says", where=data_set.prefix, expected=data_set.digest, found=digest
        )
    return SourceRecord(str(data_set.prefix), KIND, digest, len(data.sizes), _size_bytes(data_set.prefix))


def _count(split: Split, parts: list[Part]) -> dict[str, int]:
    mine = [part for part in parts if part.split == split]
    documents = sum(part.documents for part in mine)
    tokens = sum(_tokens(part) for part in mine)
    if tokens == 0:
        raise CorpusError(
            "no token is held out" if split == "validation" else "no token is left to train on",
            where=", ".join(part.source for part in mine),
            expected="at least one document that is not empty to train on, and one held out",
            found=f"{documents} documents of no token",
            advice="give a data set to hold out, as `validation`, or change corpus.validation_fraction",
        )
    return {"documents": documents, "tokens": tokens}


def _tokens(part: Part) -> int:
    sizes = IndexedData(Path(part.source)).sizes
    return int(np.sum(sizes[part.first : part.first + part.documents], dtype=np.int64))


def _size_bytes(prefix: Path) -> int:
    with read_errors(str(prefix)):
        return sum(path.stat().st_size for path in data_set_files(prefix))
