"""Batches: the tokens that each update eats, by random access."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from treering.order.order import Order
from treering.provenance.digests import digest_bytes


def count_sequences(tokens: int, sequence_length: int) -> int:
    """Return how many sequences fit into so many tokens: each takes one token more than its inputs, shared with the next."""
    return max(0, (tokens - 1) // sequence_length)


@dataclass(frozen=True)
class Batches:
    """The batches of a run.

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

    def positions(self, step: int) -> NDArray[np.int64]:
        """Return the positions of batch `step`, int64 [batch]."""
        start = step * self.global_batch_size
        return np.arange(start, start + self.global_batch_size, dtype=np.int64)

    def sequence_ids(self, step: int) -> NDArray[np.int64]:
        """Return the sequences of batch `step`, int64 [batch]."""
        return self.order.sequence_ids(self.positions(step))

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the tokens of batch `step`, int64 [batch, sequence_length + 1]: inputs [:, :-1], targets [:, 1:]."""
        starts = self.sequence_ids(step) * self.sequence_length
        places = starts[:, None] + np.arange(self.sequence_length + 1, dtype=np.int64)
        return self.tokens[places].astype(np.int64)

    @staticmethod
    def digest(rows: NDArray[np.int64]) -> str:
        """Return the digest of a batch's tokens: rows one after the other, as little-endian uint32."""
        return digest_bytes(rows.astype("<u4").tobytes())

    def steps_of_sequence(self, sequence_id: int, steps: int) -> list[int]:
        """Return the batches n < `steps` that hold a sequence, ascending; step n + 1 is the first to have learnt from it.

        Raises:
            IndexError: When there is no such sequence.
        """
        positions = self.order.positions(sequence_id, steps * self.global_batch_size)
        return [position // self.global_batch_size for position in positions]

    def sequences_with_tokens(self, start: int, stop: int) -> range:
        """Return the sequences that hold any of the tokens [start, stop), as input or as target."""
        first = max(0, -(-start // self.sequence_length) - 1)
        last = min(self.order.sequences - 1, (stop - 1) // self.sequence_length)
        return range(first, last + 1)
