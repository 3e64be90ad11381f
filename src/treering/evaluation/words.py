"""Words on the bytes of a text: where they stand, hashes of runs of them, and whether two runs are the same.

A word is a longest run of bytes that do not separate. What separates: every ASCII byte but letters and digits, and the
characters U+0080–U+00BF (Latin-1's signs and the no-break space), U+2000–U+206F (general punctuation: dashes, curly quotes,
wide and narrow spaces), U+3000–U+303F (the ideographic space and CJK punctuation), and of U+FF00–U+FF65 what is neither letter
nor digit (the same in full and half width). ASCII letters count as lower case, all other bytes as they are: É is no é, and a
stray byte that is no UTF-8 is of a word. Scripts without spaces have words as long as what stands between two signs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_SPACE = ord(" ")
_ASCII = bytes(byte if byte > 0x7F or chr(byte).isalnum() else _SPACE for byte in bytes(range(0x100)).lower())
_SEPARATORS = (  # what a character's bytes begin with, and the range of its last
    (b"\xc2", 0x80, 0xBF),
    (b"\xe2\x80", 0x80, 0xBF),
    (b"\xe2\x81", 0x80, 0xAF),
    (b"\xe3\x80", 0x80, 0xBF),
    (b"\xef\xbc", 0x80, 0x8F),
    (b"\xef\xbc", 0x9A, 0xA0),
    (b"\xef\xbc", 0xBB, 0xBF),
    (b"\xef\xbd", 0x80, 0x80),
    (b"\xef\xbd", 0x9B, 0xA5),
)
_HEAD_BYTES = 8
_HEADS = np.array([(1 << 8 * length) - 1 for length in range(_HEAD_BYTES + 1)], dtype=np.uint64)
_SPREAD, _RADIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)  # odd: no bit is lost modulo 2⁶⁴
_BLOCK_RUNS = 1 << 14


def separate(content: bytes) -> NDArray[np.uint8]:
    """Return as many bytes as came: each that separates as a space, ASCII letters in lower case, the others as they are."""
    text = np.frombuffer(bytearray(content).translate(_ASCII), dtype=np.uint8)
    for lead, lowest, highest in _SEPARATORS:
        places = np.flatnonzero(text[: -len(lead)] == lead[0])
        for step in range(1, len(lead)):
            places = places[text[places + step] == lead[step]]
        last = text[places + len(lead)]
        places = places[(last >= lowest) & (last <= highest)]
        for step in range(len(lead) + 1):
            text[places + step] = _SPACE
    return text


@dataclass(frozen=True)
class SplitText:
    """A text as `separate` leaves it, and which of its bytes [start, stop) each word is."""

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self.starts)

    @cached_property
    def heads(self) -> NDArray[np.uint64]:
        """The first eight bytes of each word as a number, which is all of a shorter one, since no word holds a NUL."""
        return self._eights[self.starts] & _HEADS[np.minimum(self.stops - self.starts, _HEAD_BYTES)]

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """A hash of each word, of its first and last eight bytes: equal where words are, mostly not where they are not."""
        found = self.heads * _SPREAD
        long = np.flatnonzero(self.stops - self.starts > _HEAD_BYTES)
        found[long] += self._eights[self.stops[long] - _HEAD_BYTES] * _SPREAD * _RADIX
        return found

    @cached_property
    def _eights(self) -> NDArray[np.uint64]:
        """The eight bytes from each byte on as a number, the first byte its lowest."""
        padded = np.concatenate([self.content, np.zeros(_HEAD_BYTES, dtype=np.uint8)])
        return np.ndarray(len(self.content) + 1, dtype="<u8", buffer=padded, strides=(1,))


def split_text(content: bytes) -> SplitText:
    """Return a text's words."""
    text = separate(content)
    inside = np.zeros(len(text) + 2, dtype=bool)
    np.not_equal(text, _SPACE, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    return SplitText(text, np.ascontiguousarray(edges[::2]), np.ascontiguousarray(edges[1::2]))


def hash_runs(hashes: NDArray[np.uint64], words: int) -> NDArray[np.uint64]:
    """Return the hash of every run of so many words: a polynomial in the words' hashes, modulo 2⁶⁴."""
    count = max(0, len(hashes) - words + 1)
    return _polynomial([hashes[step : step + count] for step in range(words)])


def hash_runs_at(hashes: NDArray[np.uint64], places: NDArray[np.int64], words: int) -> NDArray[np.uint64]:
    """Return what `hash_runs` gives for the runs that begin at some words."""
    return _polynomial([hashes[places + step] for step in range(words)])


def _polynomial(columns: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    total = columns[-1].copy()
    for column in columns[-2::-1]:
        total *= _RADIX
        total += column
    return total


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers from each start on, so many as its count, one range after another."""
    return np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def same_runs(
    one: SplitText, places: NDArray[np.int64], other: SplitText, others: NDArray[np.int64], words: int
) -> NDArray[np.bool_]:
    """Return whether the runs of so many words that begin at words of one text and of another are the same, byte by byte."""
    blocks = [slice(start, start + _BLOCK_RUNS) for start in range(0, len(places), _BLOCK_RUNS)]
    found = [_same_block(one, places[block], other, others[block], words) for block in blocks]
    return np.concatenate([np.zeros(0, dtype=bool), *found])


def _same_block(
    one: SplitText, places: NDArray[np.int64], other: SplitText, others: NDArray[np.int64], words: int
) -> NDArray[np.bool_]:
    mine, theirs = (starts[:, None] + np.arange(words) for starts in (places, others))
    lengths = one.stops[mine] - one.starts[mine]
    same = (lengths == other.stops[theirs] - other.starts[theirs]) & (one.heads[mine] == other.heads[theirs])
    same = same.all(axis=1)
    long = (lengths > _HEAD_BYTES) & same[:, None]
    if long.any():
        lengths, runs = lengths[long], np.nonzero(long)[0]
        bytes_of = (text.content[ranges(text.starts[at[long]], lengths)] for text, at in ((one, mine), (other, theirs)))
        differs = np.logical_or.reduceat(np.not_equal(*bytes_of), np.cumsum(lengths) - lengths)
        same[runs[differs]] = False
    return same
