"""The text of flat training tokens, a window of words after another, with the way back from a word to its tokens."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from treering.evaluation.words import SplitText, ranges, split_text

CHUNK_TOKENS = 1 << 18  # a chunk's arrays stay in a processor's cache

Decode = Callable[[NDArray[np.integer]], tuple[bytes, NDArray[np.int64]]]
"""From ids to the bytes they stand for, none for special tokens, and where each id's begin, with the end of the last."""


@dataclass(frozen=True)
class TextWindow:
    """Some words of the training text.

    Args:
        split: The words, those carried over from the window before first.
        due: Runs of words that begin before this word are this window's; the others come again in the next.
        breaks: The byte at which each document ends, int64 [documents that end].
        edges: The first byte of each token, int64 [tokens]; for what was carried over, of each byte.
        owners: Which of all tokens that is.
        new_tokens: How many tokens no window before had.
    """

    split: SplitText
    due: int
    breaks: NDArray[np.int64]
    edges: NDArray[np.int64]
    owners: NDArray[np.int64]
    new_tokens: int

    def within_documents(self, places: NDArray[np.int64], words: int) -> NDArray[np.bool_]:
        """Return whether the runs of so many words that begin at these lie in one document each."""
        first, last = self.split.starts[places], self.split.starts[places + words - 1]
        return np.searchsorted(self.breaks, first) == np.searchsorted(self.breaks, last)

    def tokens_of(self, places: NDArray[np.int64], words: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first token and the last token + 1 of the runs of so many words that begin at these."""
        return self._owners(self.split.starts[places]), self._owners(self.split.stops[places + words - 1] - 1) + 1

    def rest(self) -> tuple[bytes, NDArray[np.int64]]:
        """Return the words from `due` on, one space between, and which token holds each byte; a last word may go on."""
        starts, stops = self.split.starts[self.due :], self.split.stops[self.due :]
        if not len(starts):
            return b"", np.zeros(0, dtype=np.int64)
        open_ended = stops[-1] == len(self.split.content)
        places = ranges(starts, stops - starts + 1)[: -1 if open_ended else None]  # the byte after a word separates
        return self.split.content[places].tobytes(), self._owners(places)

    def _owners(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.owners[np.searchsorted(self.edges, places, side="right") - 1]


def text_windows(
    tokens: NDArray[np.integer], decode: Decode, end_of_document: int, carried_words: int, chunk_tokens: int
) -> Iterator[TextWindow]:
    """Yield windows of all the text, in order: each has the tokens of a chunk, behind whole words of the one before.

    Memory does not grow with the tokens, documents or gaps between words; a word is held whole.

    Args:
        carried_words: How many words a run may go on after a window's last due word.
    """
    text, owners = b"", np.zeros(0, dtype=np.int64)
    for start in range(0, len(tokens), chunk_tokens):
        ids = np.asarray(tokens[start : start + chunk_tokens])
        content, places, breaks = _decode(ids, decode, end_of_document)
        split = split_text(text + content)
        breaks += len(text)
        due = len(split) if start + chunk_tokens >= len(tokens) else _due(split, breaks, carried_words)
        edges = np.concatenate([np.arange(len(text)), len(text) + places])
        owners = np.concatenate([owners, np.arange(start, start + len(ids))])
        window = TextWindow(split, due, breaks, edges, owners, len(ids))
        yield window
        text, owners = window.rest()


def _decode(
    ids: NDArray[np.integer], decode: Decode, end_of_document: int
) -> tuple[bytes, NDArray[np.int64], NDArray[np.int64]]:
    """Return the text of ids, a space for each end of a document, where each id's begins, and where those spaces stand."""
    content, places = decode(ids)
    is_end = ids == end_of_document
    ends = np.flatnonzero(is_end)
    cuts = [0, *places[ends].tolist(), len(content)]
    text = b" ".join([content[start:stop] for start, stop in pairwise(cuts)])
    places = places[:-1] + np.cumsum(is_end) - is_end
    return text, places, places[ends]


def _due(split: SplitText, breaks: NDArray[np.int64], carried_words: int) -> int:
    """Return the first word that a run of words not yet whole may begin at: one of the last, in the last document."""
    cut = len(split) > 0 and split.stops[-1] == len(split.content)
    document = np.searchsorted(split.starts, breaks[-1]) if len(breaks) else 0
    return max(len(split) - cut - carried_words, int(document), 0)
