"""Small corpora for tests: a recipe's corpus section, and the folder it makes."""

import json
from pathlib import Path
from typing import Any

from treering.config.schema import CorpusSection
from treering.corpus.documents import Document
from treering.corpus.shards import SHARD_BYTES
from treering.corpus.stage import write_corpus
from treering.corpus.store import DocumentStore


def section(*sources: dict[str, Any], **settings: Any) -> CorpusSection:
    """The corpus section with these sources; half of the documents are held out unless said otherwise."""
    return CorpusSection.model_validate({"sources": sources, "validation_fraction": 0.5, **settings})


def make(corpus: CorpusSection, folder: Path, shard_bytes: int = SHARD_BYTES) -> dict[str, Any]:
    """Write a corpus into a new folder and return its record."""
    folder.mkdir(parents=True)
    write_corpus(corpus, folder, shard_bytes=shard_bytes)
    return json.loads((folder / "corpus.json").read_bytes())


def documents(folder: Path) -> list[Document]:
    """All documents of a corpus, first those to train on, then those held out."""
    return [*DocumentStore(folder, "train"), *DocumentStore(folder, "validation")]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
