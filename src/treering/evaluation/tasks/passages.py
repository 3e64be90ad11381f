"""Passages: pieces of held-out documents that begin and end at words, chosen by digest."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from treering.corpus.documents import Document
from treering.provenance.digests import derive_key


@dataclass(frozen=True)
class Passage:
    """A piece of a document: the document's id, where the piece starts in it, in characters, and its text."""

    document: str
    start: int
    text: str


def cut_passages(document: str, text: str, size: int) -> Iterator[Passage]:
    """Yield a text's passages of at most `size` characters, cut at white space where there is any."""
    start = 0
    while start < len(text):
        stop = _cut_at(text, start, start + size)
        if piece := text[start:stop].strip():
            yield Passage(document, start, piece)
        start = stop


def choose_passages(
    documents: Iterable[Document],
    cut: Callable[[str, str], Iterable[Passage]],
    domain: str,
    most: int,
) -> list[Passage]:
    """Return at most so many passages of the documents, those whose keys are smallest, in the order of their keys.

    Args:
        documents: Read once, one at a time.
        cut: Cuts a document's id and text into passages.
        domain: What they are chosen for; other domains choose others.
        most: How many.
    """
    passages = (passage for document in documents for passage in cut(document.id, document.text))
    return heapq.nsmallest(most, passages, key=lambda passage: derive_key(domain, 0, passage.document, passage.start))


def _cut_at(text: str, start: int, stop: int) -> int:
    if stop >= len(text):
        return len(text)
    space = max(text.rfind(" ", start, stop + 1), text.rfind("\n", start, stop + 1))
    return space if space > start else stop
