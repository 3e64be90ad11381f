"""The headers of safetensors files: which tensors a file has, of which shape and number type, and where in it they lie."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

from treering.errors import FormatError
from treering.hub.documents import parse_object
from treering.hub.strangers import shown

MOST_HEADER_BYTES = 32_000_000  # of a file in use one; the format itself allows three times as many
_FIRST_BYTES = 1 << 16  # asked for at once: a header of some hundred tensors
_MOST_DIMENSIONS, _LONGEST_DIMENSION = 16, 1 << 53
ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1},
}
FLOATS = ("F64", "F32", "F16", "BF16")

Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class TensorFact:
    """A tensor in a file: number type, shape, and its bytes [start, stop) there."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return (self.stop - self.start) // ITEM_BYTES[self.dtype]


def read_header(read: Read, size_bytes: int, where: str) -> dict[str, TensorFact]:
    """Return the tensors of a safetensors file by name, after checking that each lies in it.

    Args:
        read: Returns the bytes [start, stop) of the file.

    Raises:
        FormatError: When the file is no safetensors, or says of a tensor what cannot be.
    """
    first = read(0, min(size_bytes, _FIRST_BYTES))
    length = int.from_bytes(first[:8], "little")
    if len(first) < 8 or not 2 <= length <= min(MOST_HEADER_BYTES, size_bytes - 8):
        raise FormatError("this is no safetensors file", where=where, found=f"{size_bytes:,} bytes, a header of {length:,}")
    content = first[8 : 8 + length]
    if len(content) < length:
        content += read(8 + len(content), 8 + length)
    document = parse_object(content, f"{where}, its header", repeats=False)
    document.pop("__metadata__", None)
    if odd := [name for name in document if not name.isprintable()]:
        raise FormatError("this is no name of a tensor", where=where, found=shown(odd[0]))
    tensors = {
        name: _tensor(entry, size_bytes - 8 - length, 8 + length, f"{where}, {shown(name)}") for name, entry in document.items()
    }
    _refuse_overlaps(tensors, where)
    return tensors


def _refuse_overlaps(tensors: Mapping[str, TensorFact], where: str) -> None:
    """Do nothing where each tensor has its bytes for itself.

    Raises:
        FormatError: When two lie over each other, as no writer has them.
    """
    spans = sorted((fact.start, fact.stop, name) for name, fact in tensors.items() if fact.numbers)
    for before, after in pairwise(spans):
        if after[0] < before[1]:
            raise FormatError("tensors lie over each other", where=where, found=f"{shown(before[2])}, {shown(after[2])}")


def _tensor(entry: object, data_bytes: int, data_start: int, where: str) -> TensorFact:
    """Return what a header says of a tensor.

    Raises:
        FormatError: When it does not fit into the file, or its bytes do not fit its shape.
    """
    fields: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES or not _numbers(shape) or len(shape) > _MOST_DIMENSIONS:
        raise FormatError("this tensor has no shape or number type", where=where, found=shown(entry))
    if not _numbers(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= data_bytes:
        raise FormatError("this tensor lies outside of its file", where=where, found=shown(offsets))
    size = ITEM_BYTES[dtype]
    for length in shape:
        size *= length
        if size > data_bytes:
            break
    if size != offsets[1] - offsets[0]:
        raise FormatError("this tensor has another size than its shape", where=where, found=shown(entry))
    return TensorFact(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _numbers(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < _LONGEST_DIMENSION for number in value)
