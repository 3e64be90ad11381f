"""The order again, in Python's own integers, which know no 64 bits."""

import numpy as np
import pytest
from order_by_hand import hashed, sequence_id

from treering.order.order import Order
from treering.provenance.hashing import keyed_hash

SIZES = (1, 2, 3, 10, 99, 100, 101, 12_345, 146_484_374, 2**40 + 7, 2**62)


@pytest.mark.parametrize("size", SIZES)
def test_the_order_is_that_of_plain_integers(size: int) -> None:
    positions = [0, 1, 2, size // 3, size - 1, size, size + size // 2] if size < 2**61 else [0, 1, size // 3, size - 1]
    for seed in (0, 1234, 2**63 - 1):
        expected = [sequence_id(size, seed, position) for position in positions]
        assert Order(size, seed).sequence_ids(np.array(positions)).tolist() == expected


def test_the_hash_is_that_of_plain_integers() -> None:
    values = [0, 1, 2**32, 2**63, 2**64 - 1]
    for first, second in ((0, 0), (2**64 - 1, 1), (0x123456789ABCDEF0, 2**63)):
        found = keyed_hash(np.array(values, dtype=np.uint64), np.uint64(first), np.uint64(second))
        assert found.tolist() == [hashed(value, first, second) for value in values]
