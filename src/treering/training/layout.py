"""Which rank owns which rows of which parameter."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from torch import Tensor

from treering.model.shapes import Shape

# Numbers: 256 bytes, the most that cuBLAS and vector loads look at. They choose kernels by it, so a parameter in the row has to
# be aligned as one alone is.
_ALIGNED = 64


@dataclass(frozen=True)
class Layout:
    """All parameters laid out one after another in the network's order and cut into one stretch of whole rows for each rank.

    A row is what one index of a parameter's first dimension picks; a vector's rows are its numbers.
    """

    shapes: Mapping[str, Shape]
    world_size: int

    @property
    def size(self) -> int:
        """How many numbers all parameters take, with what aligns them."""
        name, start = list(self.starts.items())[-1]
        return start + math.prod(self.shapes[name])

    @property
    def rows(self) -> int:
        """How many rows all parameters have."""
        return sum(shape[0] for shape in self.shapes.values())

    @cached_property
    def starts(self) -> dict[str, int]:
        """The place of each parameter's first number."""
        starts, place = {}, 0
        for name, shape in self.shapes.items():
            starts[name] = place
            place += -(-math.prod(shape) // _ALIGNED) * _ALIGNED
        return starts

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """Where each rank's stretch begins, and, last, where all end: rank r owns the numbers [cuts[r], cuts[r + 1])."""
        inner = (self._row_start(self.size * rank // self.world_size) for rank in range(self.world_size))
        return (*inner, self.size)

    def owned(self, rank: int) -> dict[str, slice]:
        """Return the rows that a rank owns, by the parameter's name; names without any are left out."""
        return self._owned[rank]

    def row_range(self, rank: int) -> slice:
        """Return the rows that a rank owns, all parameters' rows being counted on."""
        owned = self.owned(rank)
        if not owned:
            return slice(0, 0)
        before = 0
        for name, shape in self.shapes.items():
            if name in owned:
                start = before + owned[name].start
                return slice(start, start + sum(rows.stop - rows.start for rows in owned.values()))
            before += shape[0]
        return slice(0, 0)

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Return every parameter as a view of a flat tensor of `size` numbers."""
        return {
            name: flat[start : start + math.prod(self.shapes[name])].view(self.shapes[name])
            for name, start in self.starts.items()
        }

    def own_views(self, flat: Tensor, rank: int) -> dict[str, Tensor]:
        """Return the rows that a rank owns as views of its own stretch, a flat tensor of `cuts[r + 1]` − `cuts[r]` numbers."""
        found = {}
        for name, rows in self.owned(rank).items():
            shape, width = self.shapes[name], math.prod(self.shapes[name][1:])
            start = self.starts[name] + rows.start * width - self.cuts[rank]
            count = rows.stop - rows.start
            found[name] = flat[start : start + count * width].view(count, *shape[1:])
        return found

    @cached_property
    def _owned(self) -> list[dict[str, slice]]:
        return [self._rows_in(start, stop) for start, stop in pairwise(self.cuts)]

    def _rows_in(self, start: int, stop: int) -> dict[str, slice]:
        found = {}
        for name, shape in self.shapes.items():
            width = math.prod(shape[1:])
            first = min(max((start - self.starts[name]) // width, 0), shape[0])
            last = min(max((stop - self.starts[name]) // width, 0), shape[0])
            if first < last:
                found[name] = slice(first, last)
        return found

    def _row_start(self, place: int) -> int:
        name = max((name for name, start in self.starts.items() if start <= place), key=self.starts.__getitem__)
        width = math.prod(self.shapes[name][1:])
        return self.starts[name] + (place - self.starts[name]) // width * width


@dataclass(frozen=True)
class ShardLayout:
    """Every parameter cut by itself into stretches of whole rows, one for each rank, as FSDP2 cuts it.

    All stretches of a parameter are equally long but the last ones, which may be shorter or have none.
    """

    shapes: Mapping[str, Shape]
    world_size: int

    def owned(self, rank: int) -> dict[str, slice]:
        """Return the rows that a rank owns, by the parameter's name; names without any are left out."""
        found = {}
        for name, (rows, *_) in self.shapes.items():
            longest = math.ceil(rows / self.world_size)
            start, stop = min(rank * longest, rows), min((rank + 1) * longest, rows)
            if start < stop:
                found[name] = slice(start, stop)
        return found
