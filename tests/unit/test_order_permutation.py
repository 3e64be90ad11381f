"""The permutation: every number goes somewhere, no two to one place, and each finds its way back."""

import numpy as np
import pytest

from treering.errors import InputError
from treering.order.permutation import Permutation
from treering.provenance.digests import derive_key

LARGEST = 2**62
HUGE = (146_484_374, 2**31 - 1, 2**32 + 1, 10**12, 2**53 + 1, 10**18, LARGEST - 1, LARGEST)


def permutation(size: int, seed: int = 0, rounds: int = 8) -> Permutation:
    return Permutation(size, tuple(derive_key("test", seed, number) for number in range(2 * rounds)))


@pytest.mark.parametrize("first", range(1, 301, 50))
def test_every_size_up_to_300_is_permuted_and_comes_back(first: int) -> None:
    for size in range(first, first + 50):
        numbers = np.arange(size)
        moved = permutation(size, seed=size).forward(numbers)
        assert np.array_equal(np.sort(moved), numbers), size
        assert np.array_equal(permutation(size, seed=size).inverse(moved), numbers), size


@pytest.mark.parametrize("size", HUGE)
def test_numbers_of_a_huge_range_stay_in_it_and_come_back(size: int) -> None:
    ends = [0, 1, size // 2, size - 2, size - 1]
    within = [derive_key("test/points", size, number) % size for number in range(2000)]
    points = np.array([*ends, *within], dtype=np.int64)
    moved = permutation(size).forward(points)
    assert moved.min() >= 0
    assert moved.max() < size
    assert len(np.unique(moved)) == len(np.unique(points))
    assert np.array_equal(permutation(size).inverse(moved), points)
    assert np.array_equal(permutation(size).forward(permutation(size).inverse(points)), points)


def test_the_grid_holds_every_number_with_at_most_a_row_and_a_column_to_spare() -> None:
    for size in [*range(1, 3000), *HUGE]:
        own = permutation(size)
        assert size <= own.rows * own.columns <= size + own.rows + own.columns, size


def test_a_number_goes_to_the_same_place_alone_and_in_company() -> None:
    own = permutation(1000)
    together = own.forward(np.arange(1000))
    assert [int(own.forward(np.array([number]))[0]) for number in range(0, 1000, 37)] == together[::37].tolist()
    assert np.array_equal(own.forward(np.arange(1000).reshape(10, 100)), together.reshape(10, 100))


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint16, np.uint64])
def test_the_type_of_the_numbers_does_not_matter(kind: type) -> None:
    numbers = np.arange(999)
    assert np.array_equal(permutation(999).forward(numbers.astype(kind)), permutation(999).forward(numbers))


def test_another_key_is_another_permutation() -> None:
    keys = list(permutation(500).round_keys)
    expected = permutation(500).forward(np.arange(500))
    for number in range(len(keys)):
        changed = [*keys[:number], keys[number] ^ 1, *keys[number + 1 :]]
        assert (Permutation(500, tuple(changed)).forward(np.arange(500)) != expected).sum() > 400, number


@pytest.mark.parametrize("size", [0, -1, LARGEST + 1])
def test_a_size_that_the_arithmetic_cannot_hold_is_refused(size: int) -> None:
    with pytest.raises(InputError, match="cannot be ordered") as caught:
        permutation(size)
    assert str(size) in str(caught.value)


@pytest.mark.parametrize("keys", [(), (1, 2), (1, 2, 3, 4, 5, 6)])
def test_half_rounds_are_refused(keys: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="rounds in pairs"):
        Permutation(10, keys)
