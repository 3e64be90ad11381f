"""Whole files of weights, read once from end to end: their digest, each tensor's, and numbers that are none."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from treering.hub.audit.headers import FLOATS, ITEM_BYTES, Read, TensorFact
from treering.hub.audit.samples import decode

_PIECE_BYTES = 1 << 24


@dataclass(frozen=True)
class Scan:
    """What a whole file is: its digest, each tensor's of its bytes, and how many numbers of a tensor are not finite."""

    digest: str
    tensors: Mapping[str, str]
    not_finite: Mapping[str, int]


def scan_file(read: Read, size_bytes: int, tensors: Mapping[str, TensorFact]) -> Scan:
    """Return what a safetensors file is, after reading it once and keeping no more than a piece of it.

    Raises:
        FormatError: When it cannot be had.
    """
    whole, digests, not_finite = hashlib.sha256(), dict[str, str](), dict[str, int]()
    read = _Ahead(read, size_bytes)
    position = 0
    for name, fact in sorted(tensors.items(), key=lambda entry: (entry[1].start, entry[1].stop)):
        for piece in _pieces(read, position, fact.start, 1):
            whole.update(piece)
        state, wrong = hashlib.sha256(), 0
        for piece in _pieces(read, fact.start, fact.stop, ITEM_BYTES[fact.dtype]):
            whole.update(piece)
            state.update(piece)
            if fact.dtype in FLOATS:
                wrong += int(np.count_nonzero(~np.isfinite(decode(piece, fact.dtype))))
        digests[name], position = f"sha256:{state.hexdigest()}", max(position, fact.stop)
        if wrong:
            not_finite[name] = wrong
    for piece in _pieces(read, position, size_bytes, 1):
        whole.update(piece)
    return Scan(f"sha256:{whole.hexdigest()}", digests, not_finite)


class _Ahead:
    """Reads a file from its beginning to its end in large pieces, and gives small ones."""

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read, self._size, self._start, self._piece = read, size_bytes, 0, b""

    def __call__(self, start: int, stop: int) -> bytes:
        if not self._start <= start <= stop <= self._start + len(self._piece):
            self._start, self._piece = start, self._read(start, min(max(stop, start + _PIECE_BYTES), self._size))
        return self._piece[start - self._start : stop - self._start]


def _pieces(read: Read, start: int, stop: int, item_bytes: int) -> Iterator[bytes]:
    step = _PIECE_BYTES // item_bytes * item_bytes
    for begin in range(start, stop, step):
        yield read(begin, min(begin + step, stop))
