"""The order: position in training → sequence, and back."""

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

    def positions(self, sequence_id: int, stop: int) -> list[int]:
        """Return all positions in [0, stop) at which a sequence stands, ascending.

        Raises:
            IndexError: When there is no such sequence.
        """
        if not 0 <= sequence_id < self.sequences:
            raise IndexError(f"sequence {sequence_id} is not in [0, {self.sequences})")
        epochs = -(-stop // self.sequences)
        one = np.array([sequence_id])
        places = (int(_permutation(self.sequences, self.seed, epoch).inverse(one)[0]) for epoch in range(epochs))
        found = (epoch * self.sequences + place for epoch, place in enumerate(places))
        return [position for position in found if position < stop]

    def places(self, epoch: int, sequence_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where in an epoch each sequence stands, counted from the epoch's first position, int64 [sequence_ids]."""
        return _permutation(self.sequences, self.seed, epoch).inverse(sequence_ids)


@lru_cache(maxsize=64)
def _permutation(sequences: int, seed: int, epoch: int) -> Permutation:
    return Permutation(sequences, tuple(derive_key("order/round", seed, epoch, number) for number in range(_KEYS)))
