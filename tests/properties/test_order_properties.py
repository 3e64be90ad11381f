"""The order for any size, seed and batch; and that it is as even as chance would have it."""

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treering.order.batches import FlatBatches, positions_of
from treering.order.order import Order
from treering.order.permutation import Permutation
from treering.training.tree import share

# Were the order truly random, each of the tests of chance here would fail by bad luck once in a million times. Seeds are
# fixed, so each fails always or never.
FALSE_ALARM = 1e-6

sizes = st.one_of(st.integers(1, 500), st.integers(1, 2**62))
words = st.integers(0, 2**64 - 1)
keys = st.integers(1, 5).flatmap(lambda pairs: st.tuples(*[words] * (4 * pairs)))


@given(data=st.data(), size=sizes, round_keys=keys)
def test_any_number_of_any_range_comes_back_under_any_keys(data: st.DataObject, size: int, round_keys: tuple[int, ...]) -> None:
    numbers = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20)), dtype=np.int64)
    permutation = Permutation(size, round_keys)
    moved = permutation.forward(numbers)
    assert ((moved >= 0) & (moved < size)).all()
    assert np.array_equal(permutation.inverse(moved), numbers)
    assert np.array_equal(permutation.forward(permutation.inverse(numbers)), numbers)


@given(size=st.integers(1, 300), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 2**20))
def test_any_epoch_of_any_seed_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    positions = np.arange(epoch * size, (epoch + 1) * size)
    assert np.array_equal(np.sort(Order(size, seed).sequence_ids(positions)), np.arange(size))


@given(
    sequences=st.integers(1, 60),
    seed=st.integers(0, 2**63 - 1),
    size=st.integers(1, 30),
    steps=st.integers(0, 12),
    length=st.integers(1, 6),
)
def test_steps_and_sequences_answer_each_other(sequences: int, seed: int, size: int, steps: int, length: int) -> None:
    batches = FlatBatches(np.arange(sequences * length + 1), Order(sequences, seed), length, size)
    forward = {(step, int(s)) for step in range(steps) for s in batches.sequence_ids(step)}
    backward = {(step, s) for s in range(sequences) for step in batches.steps_of_sequences([s], steps)[0]}
    assert forward == backward


def chi_square_is_fair(outcomes: Iterable[Hashable], kinds: int) -> bool:
    """Whether the outcomes' counts are as even as chance, false alarms apart.

    The quantile of chi-square is Wilson and Hilferty's (1931), good to a hundredth here.
    """
    counts = Counter(outcomes)
    expected = counts.total() / kinds
    assert expected > 5, "too few outcomes for this test"
    statistic = sum((count - expected) ** 2 for count in counts.values()) / expected + (kinds - len(counts)) * expected
    freedom = kinds - 1
    z = NormalDist().inv_cdf(1 - FALSE_ALARM)
    return statistic <= freedom * (1 - 2 / (9 * freedom) + z * (2 / (9 * freedom)) ** 0.5) ** 3


def orders(size: int, count: int, epoch: int = 0) -> list[list[int]]:
    positions = np.arange(epoch * size, (epoch + 1) * size)
    return [Order(size, seed).sequence_ids(positions).tolist() for seed in range(count)]


@pytest.mark.parametrize(("size", "permutations"), [(2, 2), (3, 6), (4, 24), (5, 120)])
def test_every_permutation_of_a_few_sequences_is_as_likely_as_another(size: int, permutations: int) -> None:
    assert chi_square_is_fair(map(tuple, orders(size, 25 * permutations + 300)), permutations)


@pytest.mark.parametrize("size", [7, 16, 49])
def test_every_sequence_is_as_likely_as_another_at_every_position(size: int) -> None:
    drawn = orders(size, 20 * size)
    for position in (0, 1, size // 2, size - 1):
        assert chi_square_is_fair((order[position] for order in drawn), size), position


@pytest.mark.parametrize("size", [9, 12])
def test_neighbours_in_the_order_are_as_unrelated_as_chance(size: int) -> None:
    drawn = orders(size, 20 * size * (size - 1))
    assert chi_square_is_fair(((order[0], order[1]) for order in drawn), size * (size - 1))
    assert chi_square_is_fair(((order[0], order[-1]) for order in drawn), size * (size - 1))


def test_an_epoch_says_nothing_about_the_next() -> None:
    first, second = orders(10, 1500), orders(10, 1500, epoch=1)
    for position in (0, 5):
        pairs = ((a[position], b[position]) for a, b in zip(first, second, strict=True))
        assert chi_square_is_fair(pairs, 100), position


def test_a_seed_says_nothing_about_the_next() -> None:
    drawn = orders(10, 3000)
    assert chi_square_is_fair(((a[0], b[0]) for a, b in itertools.pairwise(drawn)), 100)


def test_the_test_of_chance_sees_an_order_that_is_not_fair() -> None:
    drawn = orders(10, 1500)
    assert not chi_square_is_fair((order[0] if order[0] or seed % 3 else 1 for seed, order in enumerate(drawn)), 10)


@given(
    world_size=st.integers(1, 12), micro_batches=st.integers(1, 16), micro_batch_size=st.integers(1, 5), steps=st.integers(0, 6)
)
def test_the_ranks_micro_batches_tile_the_order(world_size: int, micro_batches: int, micro_batch_size: int, steps: int) -> None:
    batches = FlatBatches(np.arange(9), Order(8, 1), 1, micro_batches * micro_batch_size)
    eaten = [
        position
        for step in range(steps)
        for rank in range(world_size)
        for leaf in share(micro_batches, world_size, rank)
        for position in positions_of(step, batches.global_batch_size)[
            leaf * micro_batch_size : (leaf + 1) * micro_batch_size
        ].tolist()
    ]
    assert eaten == list(range(steps * batches.global_batch_size))
