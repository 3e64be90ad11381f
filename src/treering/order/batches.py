"""Batches: the tokens that each update eats, by random access."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from treering.order.order import Order
from treering.provenance.digests import digest_bytes


def count_sequences(tokens: int, sequence_length: int) -> int:
    """Return how many sequences fit into so many tokens: each takes one token more than its inputs, shared with the next."""
    return max(0, (tokens - 1) // sequence_length)


class Batches(Protocol):
    """The batches of a run, in whichever order: `sequences` are numbered, batch n holds `global_batch_size` of them."""

    @property
    def sequence_length(self) -> int:
        """The inputs of a sequence, in tokens."""
        ...

    @property
    def global_batch_size(self) -> int:
        """Sequences per update."""
        ...

    @property
    def sequences(self) -> int:
        """How many sequences there are."""
        ...

    def sequence_ids(self, step: int) -> NDArray[np.int64]:
        """Return the sequences of batch `step`, int64 [batch]."""
        ...

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the tokens of batch `step`, int64 [batch, sequence_length + 1]: inputs [:, :-1], targets [:, 1:]."""
        ...

    def epoch(self, position: int) -> int | None:
        """Return the epoch of a position, from 0; None where epochs are shuffled together."""
        ...

    def ranges(self, sequence_id: int) -> list[tuple[int, int]]:
        """Return which of the flat training tokens [start, stop) a sequence is made of, in order, its last target too."""
        ...

    def steps_of_sequences(self, sequence_ids: Sequence[int], steps: int) -> list[list[int]]:
        """Return for each sequence the batches n < `steps` that hold it, ascending; step n + 1 is the first that learnt it."""
        ...

    def sequences_with_tokens(self, start: int, stop: int) -> Sequence[int]:
        """Return the sequences that hold any of the flat tokens [start, stop), as input or as target."""
        ...


def positions_of(step: int, global_batch_size: int) -> NDArray[np.int64]:
    """Return the positions of batch `step`, int64 [batch]."""
    start = step * global_batch_size
    return np.arange(start, start + global_batch_size, dtype=np.int64)


def digest_batch(rows: NDArray[np.int64]) -> str:
    """Return the digest of a batch's tokens: rows one after the other, as little-endian uint32."""
    return digest_bytes(rows.astype("<u4").tobytes())


@dataclass(frozen=True)
class FlatBatches:
    """Batches of sequences cut from the flat tokens, each epoch in an order of its own.

    Args:
        tokens: The flat training tokens, any integer type; sequence s is tokens [s·L, s·L + L], its last token being the
            next one's first.
        sequence_length: L, inputs in tokens.
        global_batch_size: Sequences per update.
    """

    tokens: NDArray[np.integer]
    order: Order
    sequence_length: int
    global_batch_size: int

    @property
    def sequences(self) -> int:
        """How many sequences there are."""
        return self.order.sequences

    def sequence_ids(self, step: int) -> NDArray[np.int64]:
        """Return the sequences of batch `step`, int64 [batch]."""
        return self.order.sequence_ids(positions_of(step, self.global_batch_size))

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the tokens of batch `step`, int64 [batch, sequence_length + 1]: inputs [:, :-1], targets [:, 1:]."""
        starts = self.sequence_ids(step) * self.sequence_length
        places = starts[:, None] + np.arange(self.sequence_length + 1, dtype=np.int64)
        return self.tokens[places].astype(np.int64)

    def epoch(self, position: int) -> int:
        """Return the epoch of a position, from 0."""
        return position // self.order.sequences

    def ranges(self, sequence_id: int) -> list[tuple[int, int]]:
        """Return which of the flat tokens a sequence is: one range, its last token the next sequence's first."""
        start = sequence_id * self.sequence_length
        return [(start, start + self.sequence_length + 1)]

    def steps_of_sequences(self, sequence_ids: Sequence[int], steps: int) -> list[list[int]]:
        """Return for each sequence the batches n < `steps` that hold it, ascending; step n + 1 is the first that learnt it.

        Raises:
            IndexError: When there is no such sequence.
        """
        positions = self.order.positions_of(sequence_ids, steps * self.global_batch_size)
        return [[position // self.global_batch_size for position in found] for found in positions]

    def sequences_with_tokens(self, start: int, stop: int) -> range:
        """Return the sequences that hold any of the tokens [start, stop), as input or as target."""
        first = max(0, -(-start // self.sequence_length) - 1)
        last = min(self.order.sequences - 1, (stop - 1) // self.sequence_length)
        return range(first, last + 1)
