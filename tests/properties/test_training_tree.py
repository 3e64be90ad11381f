"""The tree sum and the layout, for any number of leaves, ranks and any order of arrival."""

import itertools
import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_making import bits

from treering.training.layout import Layout, ShardLayout
from treering.training.tree import TreeSum, ordered_sum, pairs, places, share, sum_rows

COUNTS = st.integers(1, 40)


def leaf(number: int) -> torch.Tensor:
    """Numbers whose sum depends on the order in which they are added."""
    return torch.tensor([1.1, -3.3e7, 1e-3]) * (number + 1) ** 3


def by_hand(leaves: list[torch.Tensor]) -> torch.Tensor:
    """The sum as it is defined: a power of two is two halves; of another number the largest power of two, and the rest."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << ((len(leaves) - 1).bit_length() - 1)
    return by_hand(leaves[:half]) + by_hand(leaves[half:])


@given(count=COUNTS, seed=st.integers(0, 1000))
def test_the_sum_is_that_of_the_definition_in_whatever_order_leaves_come(count: int, seed: int) -> None:
    numbers, tree = list(range(count)), TreeSum()
    random.Random(seed).shuffle(numbers)
    for number in numbers:
        tree.add((0, number), [leaf(number)])
    (total,) = tree.total()
    assert bits(total) == bits(by_hand([leaf(number) for number in range(count)]))


def test_another_order_of_sums_is_other_bits() -> None:
    in_a_row = sum(leaf(number) for number in range(1, 13)) + leaf(0)
    assert bits(torch.as_tensor(in_a_row)) != bits(by_hand([leaf(number) for number in range(13)]))


@given(count=COUNTS, world_size=st.integers(1, 12))
def test_ranks_that_hand_on_their_nodes_make_the_same_sum(count: int, world_size: int) -> None:
    whole = TreeSum()
    for rank in range(world_size):
        mine, own = TreeSum(), share(count, world_size, rank)
        for number in own:
            mine.add((0, number), [leaf(number)])
        assert [place for place, _ in mine.nodes()] == places(own.start, own.stop)
        for place, tensors in mine.nodes():
            whole.add(place, tensors)
    (total,) = whole.total()
    assert bits(total) == bits(by_hand([leaf(number) for number in range(count)]))


@given(start=COUNTS, count=COUNTS)
def test_pairs_are_the_leaves_in_order_and_each_is_a_node_of_the_tree(start: int, count: int) -> None:
    leaves, tree = range(start, start + count), TreeSum()
    found = list(pairs(leaves))
    assert list(itertools.chain.from_iterable(members for _, members in found)) == list(leaves)
    for (level, index), members in found:
        assert members == range(index << level, (index + 1) << level)
        tree.add((level, index), [leaf(members.start)])
    assert [place for place, _ in tree.nodes()] == places(leaves.start, leaves.stop)


@given(count=COUNTS, world_size=st.integers(1, 12))
def test_shares_tile_the_leaves(count: int, world_size: int) -> None:
    ranges = [share(count, world_size, rank) for rank in range(world_size)]
    assert list(itertools.chain.from_iterable(ranges)) == list(range(count))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@given(
    world_size=st.integers(1, 12),
    shapes=st.lists(st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 9))), min_size=1),
)
def test_every_row_has_one_owner_and_stretches_follow_each_other(world_size: int, shapes: list[tuple[int, ...]]) -> None:
    layout = Layout({f"p{number}": shape for number, shape in enumerate(shapes)}, world_size)
    numbers = torch.arange(layout.size)
    views = layout.views(numbers)
    owners = [[views[name][rows].reshape(-1) for name, rows in layout.owned(rank).items()] for rank in range(world_size)]
    own = torch.cat(list(itertools.chain.from_iterable(owners)))
    assert torch.equal(own, torch.cat([view.reshape(-1) for view in views.values()]))
    stretches = [numbers[start:stop] for start, stop in itertools.pairwise(layout.cuts)]
    assert torch.equal(torch.cat(stretches), numbers)
    assert all(start % 64 == 0 for start in layout.starts.values())
    rows = [layout.row_range(rank) for rank in range(world_size)]
    owned = [range(layout.rows)[part] for part in rows]
    assert list(itertools.chain.from_iterable(owned)) == list(range(layout.rows))
    for rank, stretch in enumerate(stretches):
        own = layout.own_views(stretch, rank)
        assert {name: view.tolist() for name, view in own.items()} == {
            name: views[name][part].tolist() for name, part in layout.owned(rank).items()
        }


@given(world_size=st.integers(1, 12), rows=st.integers(1, 40), width=st.integers(1, 3))
def test_a_parameter_is_cut_where_fsdp_cuts_it(world_size: int, rows: int, width: int) -> None:
    tensor = torch.arange(rows * width).view(rows, width)
    layout = ShardLayout({"p": (rows, width)}, world_size)
    owned = [layout.owned(rank).get("p", slice(0, 0)) for rank in range(world_size)]
    cut = torch.chunk(tensor, world_size)
    assert [tensor[part].tolist() for part in owned] == [part.tolist() for part in cut] + [[]] * (world_size - len(cut))


@given(st.lists(st.floats(-1e9, 1e9), max_size=70))
def test_an_ordered_sum_is_the_sum(numbers: list[float]) -> None:
    # each number takes part in at most 7 additions, each off by half a unit in the last place
    allowed = 7 * 2.0**-53 * math.fsum(map(abs, numbers))
    assert ordered_sum(torch.tensor(numbers, dtype=torch.float64)) == pytest.approx(math.fsum(numbers), abs=allowed)


@given(rows=st.integers(1, 5), width=st.integers(1, 40))
def test_a_row_is_summed_as_if_it_were_alone(rows: int, width: int) -> None:
    numbers = torch.stack([leaf(number)[0] for number in range(rows * width)]).double().view(rows, width)
    alone = [ordered_sum(row) for row in numbers]
    assert sum_rows(numbers.clone()).tolist() == alone
