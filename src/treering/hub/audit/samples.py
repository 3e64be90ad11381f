"""A few numbers of the weights, the same of every branch: which ones is settled by the tensors' names and shapes alone."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from treering.hub.audit.headers import FLOATS, ITEM_BYTES, Read, TensorFact

NUMBERS = 1 << 14  # of a tensor at most: enough for a cosine to a hundredth
_MOST_TENSORS, _MOST_TENSORS_OF_ALL = 96, 1024
_MOST_NUMBERS, _FEWEST_NUMBERS = 1 << 28, 1 << 10  # of all branches together, that is a gigabyte; of a tensor
_GAP_BYTES, _PIECE_BYTES = 1 << 16, 1 << 22  # what is nearer than the first is read in one piece, up to the second
_LAYER = re.compile(r"(?:^|\.)(\d+)(?=\.)", re.ASCII)

Numbers = NDArray[np.float32]


class Slice(NamedTuple):
    """The numbers [first, first + length) of a tensor, in the order in which its file has them."""

    tensor: str
    first: int
    length: int


def choose_slices(
    files: Sequence[Mapping[str, TensorFact]], branches: int = 1, *, every_layer: bool = False
) -> tuple[Slice, ...]:
    """Return which numbers are read: of all tensors outside of layers, of all in the first and the last layer, of one between.

    Of a tensor outside of layers they are from its middle, since an embedding's first rows are of unusual tokens. Of a file
    that has none of these tensors its largest one is among them too.

    Args:
        files: The tensors of each file of a model's weights.
        branches: How many there are: of very many, fewer numbers of each are read.
        every_layer: Whether tensors of all layers are read.
    """
    floats = [{name: fact for name, fact in file.items() if fact.dtype in FLOATS and fact.numbers} for file in files]
    layers = sorted({layer for file in floats for name in file if (layer := layer_of(name)) is not None})
    whole, middle = set(layers if every_layer else [*layers[:1], *layers[-1:]]), layers[len(layers) // 2 :][:1]
    chosen: list[str] = []
    for file in floats:
        fitting = [name for name in sorted(file) if (layer := layer_of(name)) is None or layer in whole]
        of_middle = {name: fact for name, fact in file.items() if layer_of(name) in middle}
        chosen += fitting + [name for name in _largest(of_middle) if name not in fitting] or _largest(file)
    facts = {name: fact for file in floats for name, fact in file.items()}
    few = chosen[:: -(-len(chosen) // (_MOST_TENSORS_OF_ALL if every_layer else _MOST_TENSORS)) or 1]
    most = max(_FEWEST_NUMBERS, min(NUMBERS, _MOST_NUMBERS // (max(1, branches) * max(1, len(few)))))
    return tuple(_slice(name, facts[name].numbers, most) for name in few)


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a tensor is of, or None."""
    match = _LAYER.search(name)
    return int(match[1][:9]) if match else None


def read_slices(read: Read, tensors: Mapping[str, TensorFact], slices: Iterable[Slice]) -> dict[str, Numbers]:
    """Return, of the slices whose tensors a file has, the numbers; what lies close together is read in one piece."""
    spans = sorted(
        (start, start + part.length * ITEM_BYTES[fact.dtype], part)
        for part in slices
        if (fact := tensors.get(part.tensor)) is not None and part.first + part.length <= fact.numbers
        for start in [fact.start + part.first * ITEM_BYTES[fact.dtype]]
    )
    found: dict[str, Numbers] = {}
    for group in _together(spans):
        begin = group[0][0]
        content = read(begin, max(stop for _, stop, _ in group))
        for start, stop, part in group:
            found[part.tensor] = decode(content[start - begin : stop - begin], tensors[part.tensor].dtype)
    return found


def decode(content: bytes, dtype: str) -> Numbers:
    """Return little-endian floating-point numbers as float32; what float64 alone can hold becomes infinite."""
    if dtype == "BF16":
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    with np.errstate(over="ignore"):
        return np.frombuffer(content, kinds[dtype]).astype(np.float32)


def _largest(tensors: Mapping[str, TensorFact]) -> list[str]:
    return sorted(tensors, key=lambda name: (-tensors[name].numbers, name))[:1]


def _slice(name: str, numbers: int, most: int) -> Slice:
    first = (numbers - min(numbers, NUMBERS)) // 2 if layer_of(name) is None else 0
    return Slice(name, first, min(numbers, most))


def _together(spans: Sequence[tuple[int, int, Slice]]) -> list[list[tuple[int, int, Slice]]]:
    groups: list[list[tuple[int, int, Slice]]] = []
    for span in spans:
        if groups and span[0] - groups[-1][-1][1] <= _GAP_BYTES and span[1] - groups[-1][0][0] <= _PIECE_BYTES:
            groups[-1].append(span)
        else:
            groups.append([span])
    return groups
