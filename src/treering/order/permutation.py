"""A keyed permutation of [0, size) in both directions, without a table."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from treering.errors import InputError
from treering.provenance.hashing import Words, keyed_hash

_LARGEST_SIZE = 2**62


@dataclass(frozen=True)
class Permutation:
    """A bijection of [0, size) on itself: random access in constant memory, forward and inverse.

    A number x < rows × columns is held as (x ÷ columns, x mod columns); each round adds a keyed hash of one half to the
    other, modulo that half's size, which is undone by subtracting. The grid is barely larger than `size`; what falls
    outside walks on until it is inside (at most rows + columns cells lie outside, so mostly no walk at all).

    Source:
        Black and Rogaway 2002, Ciphers with Arbitrary Finite Domains: generalised Feistel and cycle walking.

    Exact:
        Integer arithmetic modulo 2⁶⁴ only: equal on every machine.
    """

    size: int
    round_keys: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what the arithmetic cannot hold.

        Raises:
            InputError: When the size is not in [1, 2⁶²], or the keys are not in pairs of two halves' rounds.
        """
        if not 1 <= self.size <= _LARGEST_SIZE:
            raise InputError("this many things cannot be ordered", expected=f"1 to {_LARGEST_SIZE}", found=self.size)
        if len(self.round_keys) % 4 or not self.round_keys:
            raise InputError("a permutation needs two keys a round, rounds in pairs", found=len(self.round_keys))

    @property
    def rows(self) -> int:
        """Size of the upper half's range."""
        return math.isqrt(self.size - 1) + 1

    @property
    def columns(self) -> int:
        """Size of the lower half's range."""
        return -(-self.size // self.rows)

    def forward(self, values: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return where each value goes; values in [0, size), any shape."""
        return self._walk(values, self._scramble)

    def inverse(self, values: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return what came to each value; values in [0, size), any shape."""
        return self._walk(values, self._unscramble)

    def _walk(self, values: NDArray[np.integer], once: Callable[[Words], Words]) -> NDArray[np.int64]:
        result = once(np.asarray(values).astype(np.uint64).ravel())
        while (outside := np.flatnonzero(result >= np.uint64(self.size))).size:
            result[outside] = once(result[outside])
        return result.astype(np.int64).reshape(np.shape(values))

    def _scramble(self, values: Words) -> Words:
        rows, columns = np.uint64(self.rows), np.uint64(self.columns)
        upper, lower = values // columns, values % columns
        for first, second, third, fourth in self._quadruples():
            upper = (upper + keyed_hash(lower, first, second) % rows) % rows
            lower = (lower + keyed_hash(upper, third, fourth) % columns) % columns
        return upper * columns + lower

    def _unscramble(self, values: Words) -> Words:
        rows, columns = np.uint64(self.rows), np.uint64(self.columns)
        upper, lower = values // columns, values % columns
        for first, second, third, fourth in reversed(self._quadruples()):
            lower = (lower + columns - keyed_hash(upper, third, fourth) % columns) % columns
            upper = (upper + rows - keyed_hash(lower, first, second) % rows) % rows
        return upper * columns + lower

    def _quadruples(self) -> list[tuple[np.uint64, ...]]:
        keys = [np.uint64(key) for key in self.round_keys]
        return [tuple(keys[start : start + 4]) for start in range(0, len(keys), 4)]
