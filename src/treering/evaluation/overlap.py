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

_BITS_PER_HASH = 5  # doublings: of the hashes that are none of a sieve's, it lets less than one in 32 through
_SECOND_BITS = np.uint64(24)  # how far the bits that the second sieve looks at lie below the first's


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

    Exact:
        Every occurrence and nothing else: hashes choose what is compared, byte by byte.
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


class _Sieve:
    """A bit for each value that the highest bits of a hash can have, set where one of some hashes has it."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        bits = max(3, len(hashes).bit_length() + _BITS_PER_HASH)
        self._shift, self._bits = np.uint64(64 - bits), np.zeros(1 << bits - 3, dtype=np.uint8)
        values = hashes >> self._shift
        np.bitwise_or.at(self._bits, values >> np.uint64(3), _bit(values))

    def passed(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the places of the hashes that may be one of them."""
        values = hashes >> self._shift
        return np.flatnonzero(self._bits[values >> np.uint64(3)] & _bit(values))


def _bit(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.left_shift(np.uint8(1), (values & np.uint64(7)).astype(np.uint8))


class _Search:
    """Kinds of grams by the hash of all their words, and two sieves by that of as many words as the shortest has."""

    def __init__(self, grams: Grams) -> None:
        self._grams, self._hashes = grams, grams.split.hashes
        sizes = np.unique(grams.kind_words).tolist()
        self._fewest = min(sizes, default=1)
        hashes = hash_runs_at(self._hashes, grams.kind_places, self._fewest)
        self._first, self._second = _Sieve(hashes), _Sieve(hashes << _SECOND_BITS)
        self._by_words = {words: self._sorted(words) for words in sizes}

    def _sorted(self, words: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return each hash of the kinds with so many words, its kinds [first, first + count) in the order told, and that."""
        kinds = np.flatnonzero(self._grams.kind_words == words)
        hashes = hash_runs_at(self._hashes, self._grams.kind_places[kinds], words)
        order = np.argsort(hashes)
        hashes = hashes[order]
        firsts = np.flatnonzero(np.diff(hashes, prepend=~hashes[:1]))
        return hashes[firsts], firsts, np.diff(firsts, append=len(hashes)), kinds[order]

    def occurrences(self, window: TextWindow) -> list[NDArray[np.int64]]:
        """Return (kind, first token, last token + 1) of the grams that begin in the window, [3, occurrences], by length."""
        candidates = self._candidates(window)
        return [self._confirmed(window, candidates, words) for words in self._by_words]

    def _candidates(self, window: TextWindow) -> NDArray[np.int64]:
        """Return the words of the window at which a gram may begin."""
        hashes = hash_runs(window.split.hashes, self._fewest)[: window.due]
        passed = self._first.passed(hashes)
        return passed[self._second.passed(hashes[passed] << _SECOND_BITS)]

    def _confirmed(self, window: TextWindow, candidates: NDArray[np.int64], words: int) -> NDArray[np.int64]:
        known, firsts, counts, kinds = self._by_words[words]
        places = candidates[candidates + words <= len(window.split)]
        hashes = hash_runs_at(window.split.hashes, places, words)
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        counts = np.where(known[at] == hashes, counts[at], 0)
        places, kinds = np.repeat(places, counts), kinds[ranges(firsts[at], counts)]
        within = window.within_documents(places, words)
        places, kinds = places[within], kinds[within]
        same = same_runs(window.split, places, self._grams.split, self._grams.kind_places[kinds], words)
        return np.stack([kinds[same], *window.tokens_of(places[same], words)])
