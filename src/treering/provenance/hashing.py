"""A keyed 64-bit hash of whole arrays, in integer arithmetic that is equal on every machine."""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def keyed_hash(values: Words, first: np.uint64, second: np.uint64) -> Words:
    """Return a hash of each value under two keys, uint64, the shape of `values`.

    Source:
        The finaliser of SplitMix64 (Steele, Lea and Flood 2014, Fast Splittable Pseudorandom Number Generators), twice.

    Exact:
        Bitwise on every machine: arithmetic modulo 2⁶⁴.
    """
    return _mix(_mix(values ^ first) ^ second)


def _mix(values: Words) -> Words:
    values = (values ^ (values >> np.uint64(30))) * _MULTIPLIERS[0]
    values = (values ^ (values >> np.uint64(27))) * _MULTIPLIERS[1]
    return values ^ (values >> np.uint64(31))
