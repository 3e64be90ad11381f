"""Every place where word n-grams stand in the flat training tokens, exactly.

Hashes only find candidates; each is compared byte by byte before it counts. What a word is: `treering.evaluation.words`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from treering.evaluation.grams import Grams
from treering.evaluation.training_text import CHUNK_TOKENS, Decode, TextWindow, text_windows
from treering.evaluation.words import hash_runs, hash_runs_at, ranges, same_runs
from treering.provenance.progress import Task

_BITS_PER_HASH = 5  # doublings: of the hashes that are no gram's, a table lets less than one in 32 through


@dataclass(frozen=True)
class Overlap:
    """Where the training tokens hold grams.

    Args:
        grams: What was looked for.
        offsets: Which occurrences [offsets[kind], offsets[kind + 1]) are of each kind, int64 [kinds + 1].
        starts: Each one's first token, ascending within a kind, int64 [occurrences].
        stops: Its last token + 1, int64 [occurrences].
    """

    grams: Grams
    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each gram occurs, int64 [grams]."""
        return np.diff(self.offsets)[self.grams.kinds]

    def occurrences(self, gram: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first token and the last token + 1 of each occurrence of a gram, ascending."""
        kind = self.grams.kinds[gram]
        mine = slice(self.offsets[kind], self.offsets[kind + 1])
        return self.starts[mine], self.stops[mine]


def find_overlap(
    grams: Grams,
    tokens: NDArray[np.integer],
    decode: Decode,
    end_of_document: int,
    watched: Task,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Overlap:
    """Return every occurrence of every gram in the text that tokens stand for; none goes across the end of a document.

    Args:
        grams: What to look for.
        tokens: Flat, each document followed by `end_of_document`; read a chunk at a time.
        decode: `Tokenizer.decode_pieces` of their tokenizer.
        end_of_document: The id that ends documents.
        watched: Advanced by the tokens done.
        chunk_tokens: Tokens looked at at once; changes nothing that is found.
    """
    search, found = _Search(grams), [np.zeros((3, 0), dtype=np.int64)]
    longest = int(grams.kind_words.max(initial=1))
    for window in text_windows(tokens, decode, end_of_document, longest - 1, chunk_tokens):
        found += search.occurrences(window)
        watched.advance(window.new_tokens)
    kinds, starts, stops = np.concatenate(found, axis=1)
    order = np.argsort(kinds, kind="stable")
    offsets = np.searchsorted(kinds[order], np.arange(len(grams.kind_words) + 1))
    return Overlap(grams, offsets, starts[order], stops[order])


class _Table:
    """A few bits of many hashes: says of any hash that it is none of them, or may be one."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        bits = max(3, len(hashes).bit_length() + _BITS_PER_HASH)
        self._shifts = [np.uint64(64 - bits), np.uint64(max(0, 64 - 2 * bits))]
        self._places = np.uint64((1 << bits) - 1)
        self._tables = [np.zeros(1 << (bits - 3), dtype=np.uint8) for _ in self._shifts]
        for table, shift in zip(self._tables, self._shifts, strict=True):
            places = (hashes >> shift) & self._places
            np.bitwise_or.at(table, places >> np.uint64(3), _bit(places))

    def candidates(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the places of the hashes that may be one of them."""
        found = np.arange(0)
        for number, (table, shift) in enumerate(zip(self._tables, self._shifts, strict=True)):
            places = (hashes >> shift) & self._places if number else hashes >> shift
            passed = np.flatnonzero(table[places >> np.uint64(3)] & _bit(places))
            found = found[passed] if number else passed
            hashes = hashes[passed]
        return found


class _Search:
    """Kinds of grams, sorted by their hashes; a table of bits says which hashes of first words may be a gram's."""

    def __init__(self, grams: Grams) -> None:
        self._grams, self._hashes = grams, grams.split.hashes
        sizes = np.unique(grams.kind_words).tolist()
        self._fewest = min(sizes, default=1)
        self._table = _Table(hash_runs_at(self._hashes, grams.kind_places, self._fewest))
        self._by_words = {words: self._sorted(words) for words in sizes}

    def _sorted(self, words: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the different hashes of the kinds with so many words, how many kinds have each, and the kinds by hash."""
        kinds = np.flatnonzero(self._grams.kind_words == words)
        hashes = hash_runs_at(self._hashes, self._grams.kind_places[kinds], words)
        order = np.argsort(hashes)
        hashes = hashes[order]
        firsts = np.flatnonzero(np.diff(hashes, prepend=~hashes[:1]))
        return hashes[firsts], np.diff(firsts, append=len(hashes)), kinds[order]

    def occurrences(self, window: TextWindow) -> list[NDArray[np.int64]]:
        """Return (kind, first token, last token + 1) of the grams that begin in the window, [3, occurrences], by length."""
        candidates = self._candidates(window)
        return [self._confirmed(window, candidates, words) for words in self._by_words]

    def _candidates(self, window: TextWindow) -> NDArray[np.int64]:
        """Return the words at which a gram may begin, going by the hash of as many words as the shortest gram has."""
        return self._table.candidates(hash_runs(window.split.hashes, self._fewest)[: window.due])

    def _confirmed(self, window: TextWindow, candidates: NDArray[np.int64], words: int) -> NDArray[np.int64]:
        known, counts, kinds = self._by_words[words]
        places = candidates[candidates + words <= len(window.split)]
        at, found = _find(known, hash_runs_at(window.split.hashes, places, words))
        at, places = at[found], places[found]
        places, kinds = np.repeat(places, counts[at]), kinds[ranges((np.cumsum(counts) - counts)[at], counts[at])]
        within = window.within_documents(places, words)
        places, kinds = places[within], kinds[within]
        same = same_runs(window.split, places, self._grams.split, self._grams.kind_places[kinds], words)
        return np.stack([kinds[same], *window.tokens_of(places[same], words)])


def _find(known: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where hashes are among sorted ones, and whether they are."""
    at = np.searchsorted(known, hashes)
    at = np.minimum(at, len(known) - 1)
    return at, known[at] == hashes


def _bit(places: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
