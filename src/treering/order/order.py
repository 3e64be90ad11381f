"""The order: position in training → sequence, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from treering.order.permutation import Permutation
from treering.provenance.digests import derive_key

ALGORITHM = {"name": "generalised-feistel", "version": 1, "rounds": 8}
_KEYS = 2 * 8


@dataclass(frozen=True)
class Order:
    """Epoch e is positions [e × sequences, (e + 1) × sequences), each epoch with a permutation of its own."""

    sequences: int
    seed: int

    def sequence_ids(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sequence at each position, int64 [positions]."""
        epochs, places = np.divmod(np.asarray(positions, dtype=np.int64), self.sequences)
        result = np.empty_like(places)
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            result[mine] = _permutation(self.sequences, self.seed, int(epoch)).forward(places[mine])
        return result

    def positions_of(self, sequence_ids: Sequence[int], stop: int) -> list[list[int]]:
        """Return for each sequence all positions in [0, stop) at which it stands, ascending.

        Raises:
            IndexError: When there is no such sequence.
        """
        ids = np.asarray(sequence_ids, dtype=np.int64)
        if len(odd := ids[(ids < 0) | (ids >= self.sequences)]):
            raise IndexError(f"sequence {odd[0]} is not in [0, {self.sequences})")
        found: list[list[int]] = [[] for _ in ids]
        for epoch in range(-(-stop // self.sequences)):
            positions = epoch * self.sequences + self.places(epoch, ids)
            for place in np.flatnonzero(positions < stop).tolist():
                found[place].append(int(positions[place]))
        return found

    def places(self, epoch: int, sequence_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where in an epoch each sequence stands, counted from the epoch's first position, int64 [sequence_ids]."""
        return _permutation(self.sequences, self.seed, epoch).inverse(sequence_ids)


@lru_cache(maxsize=64)
def _permutation(sequences: int, seed: int, epoch: int) -> Permutation:
    return Permutation(sequences, tuple(derive_key("order/round", seed, epoch, number) for number in range(_KEYS)))
