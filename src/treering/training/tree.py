"""A sum along one fixed binary tree, whoever computes which part of it."""

from collections.abc import Iterator

from torch import Tensor

Place = tuple[int, int]  # level and index: the sum of leaves [index × 2^level, (index + 1) × 2^level)


class TreeSum:
    """The sum of numbered leaves, each a list of tensors, in an order that depends on their numbers alone.

    Two siblings are added as soon as both are there, whichever came first, so that a node's bits depend on its leaves and
    not on who brought them or when. What is left over of a number of leaves that is no power of two is added from the right.
    Tensors given are taken over and changed.

    Exact:
        Elementwise IEEE additions: a + b has the bits of b + a, so the order of arrival is in no bit.
    """

    def __init__(self) -> None:
        self._nodes: dict[Place, list[Tensor]] = {}

    def add(self, place: Place, tensors: list[Tensor]) -> None:
        """Bring a node; a leaf is at level 0."""
        level, index = place
        while (sibling := self._nodes.pop((level, index ^ 1), None)) is not None:
            tensors = _add(sibling, tensors)
            level, index = level + 1, index // 2
        self._nodes[level, index] = tensors

    def nodes(self) -> Iterator[tuple[Place, list[Tensor]]]:
        """Yield the nodes whose siblings have not come, from the left; of leaves [a, b) they are those of `places(a, b)`."""
        for place in sorted(self._nodes, key=_first_leaf):
            yield place, self._nodes[place]

    def total(self) -> list[Tensor]:
        """Return the sum of all leaves, and forget them."""
        *left, total = (tensors for _, tensors in self.nodes())
        for tensors in reversed(left):
            total = _add(tensors, total)
        self._nodes.clear()
        return total


def places(start: int, stop: int) -> list[Place]:
    """Return the largest whole nodes that leaves [start, stop) make, from the left."""
    found = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        found.append((level, start >> level))
        start += 1 << level
    return found


def pairs(leaves: range) -> Iterator[tuple[Place, range]]:
    """Yield the leaves in twos of siblings, and alone where the sibling is not among them; each with its node's place."""
    leaf = leaves.start
    while leaf < leaves.stop:
        level = 1 if leaf % 2 == 0 and leaf + 1 < leaves.stop else 0
        yield (level, leaf >> level), range(leaf, leaf + (1 << level))
        leaf += 1 << level


def ordered_sum(numbers: Tensor) -> float:
    """Return the sum of a vector, its second half being added to its first until one number is left.

    Exact:
        Elementwise IEEE additions: bitwise equal on every machine and for every number of threads.
    """
    return float(sum_rows(numbers.reshape(1, -1).clone())[0]) if numbers.numel() else 0.0


def sum_rows(numbers: Tensor) -> Tensor:
    """Return each row's sum, [rows] of [rows, width], in the order of `ordered_sum`; the numbers given are overwritten."""
    width = numbers.shape[1]
    while width > 1:
        half = (width + 1) // 2
        numbers[:, : width - half].add_(numbers[:, half:width])
        width = half
    return numbers[:, 0]


def share(leaves: int, world_size: int, rank: int) -> range:
    """Return the leaves that a rank computes: neighbours, as evenly spread as whole leaves allow."""
    return range(leaves * rank // world_size, leaves * (rank + 1) // world_size)


def _add(left: list[Tensor], right: list[Tensor]) -> list[Tensor]:
    for mine, theirs in zip(left, right, strict=True):
        mine.add_(theirs)
    return left


def _first_leaf(place: Place) -> int:
    level, index = place
    return index << level
