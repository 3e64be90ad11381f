"""The stage: read every source, normalise, drop duplicates, hold some out, and write down what was done."""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from treering.config.run_directory import RunDirectory
from treering.config.schema import CorpusSection
from treering.corpus.data_sets import describe_data_sets, refuse_changed_data_sets
from treering.corpus.documents import (
    LARGEST_DOCUMENT_BYTES,
    RECORD_FILE,
    RECORD_FORMAT,
    Document,
    RawDocument,
    SourceRecord,
    is_held_out,
    read_corpus_record,
)
from treering.corpus.duplicates import SeenDigests, seen_digests
from treering.corpus.shards import SHARD_BYTES, ShardWriter
from treering.corpus.sources import measure_sources, read_source, refuse_changed_source
from treering.corpus.streams import too_large
from treering.errors import CorpusError
from treering.provenance.canonical import write_record
from treering.provenance.digests import digest_bytes
from treering.provenance.files import whole_directory
from treering.provenance.manifests import Manifest
from treering.provenance.progress import SILENCE, Progress, Task

_MOST_DOMAINS = 10_000


def prepare_corpus(run: RunDirectory, progress: Progress = SILENCE) -> Manifest:
    """Write `corpus/` and return the stage's manifest; a whole one is left as it is.

    Raises:
        CorpusError: When a source cannot be read as declared, leaves nothing to train on or to hold out, or has changed
            since the corpus was made.
        IntegrityError: When the stage was made from another recipe, or its files are not those of its manifest.
        StorageError: When the disk is full or the folder cannot be written.
    """
    if manifest := run.find("corpus", {}):
        _refuse_changed_sources(run, progress)
        return manifest
    with whole_directory(run.stage("corpus")) as folder:
        write_corpus(run.recipe.corpus, folder, progress)
        run.seal(folder, "corpus", {})
    return run.verified("corpus")


def write_corpus(corpus: CorpusSection, folder: Path, progress: Progress = SILENCE, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Fill a folder with the shards, the offsets and the record of a corpus.

    Raises:
        CorpusError: When a source cannot be read as declared, or nothing is left to train on or to hold out.
        StorageError: When the table of digests cannot be written.
        OSError: When another file cannot be written.
    """
    if corpus.indexed:
        write_record(
            folder / RECORD_FILE, *RECORD_FORMAT, {**describe_data_sets(corpus, progress), **_rules(corpus), "dropped": {}}
        )
        return
    tally = _Tally()
    with (
        progress.task("corpus", measure_sources(corpus.texts), "bytes") as task,
        seen_digests(folder / ".seen.partial") as seen,
        ShardWriter(folder, "train", shard_bytes) as train,
        ShardWriter(folder, "validation", shard_bytes) as validation,
    ):
        for document, where in _keep(_read(corpus, tally, task), corpus, seen, tally):
            held_out = is_held_out(document.id, corpus.validation_fraction)
            line = _line(document, where)
            (validation if held_out else train).write(line)
            tally.count(document, held_out=held_out)
            _refuse_too_many_domains(tally, where)
    _refuse_empty(corpus, tally)
    write_record(folder / RECORD_FILE, *RECORD_FORMAT, _describe(corpus, tally))


@dataclass
class _SplitTally:
    """What one split holds so far."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0


@dataclass
class _Tally:
    """What has been read, dropped and kept so far."""

    sources: list[SourceRecord] = field(default_factory=list)
    too_short: int = 0
    duplicate: int = 0
    train: _SplitTally = field(default_factory=_SplitTally)
    validation: _SplitTally = field(default_factory=_SplitTally)
    domains: Counter[str] = field(default_factory=Counter)

    def count(self, document: Document, *, held_out: bool) -> None:
        split = self.validation if held_out else self.train
        split.documents += 1
        split.characters += len(document.text)
        split.bytes += len(document.text.encode())
        if document.domain is not None:
            self.domains[document.domain] += 1


def _read(corpus: CorpusSection, tally: _Tally, task: Task) -> Iterator[RawDocument]:
    for source in corpus.texts:
        tally.sources.append((yield from read_source(source, task)))


def _keep(
    raws: Iterator[RawDocument], corpus: CorpusSection, seen: SeenDigests, tally: _Tally
) -> Iterator[tuple[Document, str]]:
    """Yield the documents that stay, each with its place for errors; of equal ones the first."""
    for raw in raws:
        text = normalise(raw.text) if corpus.normalisation == "NFC" else raw.text
        if len(text) < corpus.minimum_characters:
            tally.too_short += 1
            continue
        document_id = digest_bytes(_encode(text, raw.where))
        if corpus.deduplication == "exact" and not seen.add(document_id):
            tally.duplicate += 1
            continue
        yield Document(document_id, text, raw.source, raw.row, raw.domain, raw.metadata), raw.where


def normalise(text: str) -> str:
    """Return a text in Unicode's normal form C."""
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    return unicodedata.normalize("NFC", text)


def _encode(text: str, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise _lone_surrogate(error, where) from error


def _line(document: Document, where: str) -> bytes:
    try:
        line = document.line()
    except UnicodeEncodeError as error:
        raise _lone_surrogate(error, where) from error
    if len(line) > LARGEST_DOCUMENT_BYTES:
        raise too_large(where)
    return line


def _lone_surrogate(error: UnicodeEncodeError, where: str) -> CorpusError:
    return CorpusError(
        "half of a surrogate pair stands alone, which is no character",
        where=where,
        expected="valid Unicode",
        found=f"U+{ord(error.object[error.start]):04X} at character {error.start}",
    )


def _refuse_too_many_domains(tally: _Tally, where: str) -> None:
    if len(tally.domains) > _MOST_DOMAINS:
        raise CorpusError(
            "there are too many domains",
            where=where,
            expected=f"at most {_MOST_DOMAINS} in a corpus",
            advice="set domain_field to a field that names a kind of text; what is different in each document is metadata",
        )


def _refuse_empty(corpus: CorpusSection, tally: _Tally) -> None:
    read = sum(source.documents_read for source in tally.sources)
    found = f"{read} documents read, {tally.too_short} too short, {tally.duplicate} duplicates"
    kept = tally.train.documents + tally.validation.documents
    if kept == 0:
        raise CorpusError("the corpus is empty", where=", ".join(source.source for source in tally.sources), found=found)
    if 0 in (tally.train.documents, tally.validation.documents):
        held_out = tally.validation.documents > 0
        raise CorpusError(
            "every document is held out, none is left to train on" if held_out else "no document is held out",
            expected="at least one document to train on and one held out",
            found=f"{found}, {kept} kept, validation_fraction {corpus.validation_fraction}",
            advice=f"{'lower' if held_out else 'raise'} corpus.validation_fraction, or split the text into more documents",
        )


def _describe(corpus: CorpusSection, tally: _Tally) -> dict[str, object]:
    return {
        "sources": [source._asdict() for source in tally.sources],
        "dropped": {"duplicate": tally.duplicate, "too_short": tally.too_short},
        "train": asdict(tally.train),
        "validation": asdict(tally.validation),
        "domains": dict(tally.domains),
        **_rules(corpus),
    }


def _rules(corpus: CorpusSection) -> dict[str, object]:
    return {
        "normalisation": corpus.normalisation,
        "deduplication": corpus.deduplication,
        "validation_fraction": corpus.validation_fraction,
        "minimum_characters": corpus.minimum_characters,
    }


def _refuse_changed_sources(run: RunDirectory, progress: Progress) -> None:
    record = read_corpus_record(run.stage("corpus"))
    if run.recipe.corpus.indexed:
        refuse_changed_data_sets(run.recipe.corpus, record, progress)
        return
    recorded = [SourceRecord(**source) for source in record["sources"]]
    with progress.task("corpus: sources unchanged?", None, "bytes") as task:
        for source, earlier in zip(run.recipe.corpus.texts, recorded, strict=True):
            refuse_changed_source(source, earlier, task)
