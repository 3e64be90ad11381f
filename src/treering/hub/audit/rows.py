"""Which tokens the first updates read: rows of the input embedding that no gradient reached only shrink, all in proportion.

Two runs that read the same batches move the same rows, whatever weights they began with. Where output and input embedding are
one matrix every row has a gradient, and where few rows are left alone, or all, nothing can be told.
"""

import re
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np

from treering.hub.audit.contents import Contents
from treering.hub.audit.headers import FLOATS, ITEM_BYTES, TensorFact
from treering.hub.audit.samples import Numbers, decode
from treering.hub.audit.weights import SAFETENSORS, weight_files
from treering.hub.listed import Branch, FileFact

_EMBEDDING = re.compile(r"(?:embed_in|embed_tokens|wte|word_embeddings|tok_embeddings)\.weight$")
_MOST_BYTES = 1 << 24  # of each branch
_ROUNDING = {"F64": 1e-6, "F32": 1e-6, "F16": 2e-3, "BF16": 1.6e-2}
_TELLING = (0.02, 0.98)  # share of rows moved between which sets can be compared
_SAME, _DIFFERENT = 0.01, 0.05  # of the rows that either moved
_FEWEST_ROWS = 64
_MOST_PAIRS = 4


class Rows(NamedTuple):
    """The rows read, how many of them each run moved between two steps, and how many only one of them did."""

    before: int
    after: int
    read: int
    moved: tuple[int, int]
    differing: int

    @property
    def verdict(self) -> str:
        """`same`, `different`, or `unclear`."""
        share = self.differing / max(1, *self.moved)
        return "same" if share <= _SAME else "different" if share >= _DIFFERENT else "unclear"

    @property
    def text(self) -> str:
        """What was seen, in words."""
        return (
            f"of {self.read:,} rows of the embedding, step{self.before} to step{self.after} moved {self.moved[0]:,} in one and "
            f"{self.moved[1]:,} in the other; {self.differing:,} in only one of them"
        )

    def record(self) -> dict[str, Any]:
        """Return it as a record has it."""
        return {**self._asdict(), "moved": list(self.moved), "verdict": self.verdict, "text": self.text}


def same_rows(one: Contents, other: Contents, pairs: Sequence[tuple[Branch, Branch]]) -> Rows | None:
    """Return which rows two releases moved between the first two common steps that can tell, or None where none can.

    Raises:
        EnvironmentMismatch: When a Hub cannot be reached, or does not answer as one does.
        FormatError: When a file is listed and cannot be had.
    """
    for (before, theirs_before), (after, theirs_after) in islice(pairwise(pairs), _MOST_PAIRS):
        mine, theirs = _moved(one, before, after), _moved(other, theirs_before, theirs_after)
        if mine is None or theirs is None or len(mine) != len(theirs):
            continue
        if all(_TELLING[0] <= float(moved.mean()) <= _TELLING[1] for moved in (mine, theirs)):
            counts = int(mine.sum()), int(theirs.sum())
            return Rows(before.step, after.step, len(mine), counts, int((mine != theirs).sum()))
    return None


def _moved(contents: Contents, before: Branch, after: Branch) -> np.ndarray | None:
    """Return of each row whether it did more than shrink; None where there is no embedding to read."""
    earlier, later = _block(contents, before), _block(contents, after)
    if earlier is None or later is None or earlier[0].shape != later[0].shape:
        return None
    first, second = earlier[0].astype(np.float64), later[0].astype(np.float64)
    lengths = np.square(first).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shrunk = np.einsum("ij,ij->i", first, second) / lengths
        apart = np.sqrt(np.square(second - shrunk[:, None] * first).sum(axis=1) / lengths)
    return np.nan_to_num(apart, nan=0.0) > _ROUNDING[later[1]]


def _block(contents: Contents, branch: Branch) -> tuple[Numbers, str] | None:
    """Return rows of the input embedding, from its last third on: tokens there are rare, so that not all are read."""
    for file in weight_files(branch, SAFETENSORS):
        for name, fact in contents.headers.get(file.digest, {}).items():
            if _EMBEDDING.search(name) and len(fact.shape) == 2 and fact.dtype in FLOATS and fact.numbers:
                return _read(contents, branch, file, fact)
    return None


def _read(contents: Contents, branch: Branch, file: FileFact, fact: TensorFact) -> tuple[Numbers, str] | None:
    rows, width = fact.shape
    first = 2 * rows // 3 if rows >= 3 * _FEWEST_ROWS else 0
    row_bytes = width * ITEM_BYTES[fact.dtype]
    count = min(rows - first, _MOST_BYTES // row_bytes)
    if count < _FEWEST_ROWS:
        return None
    start = fact.start + first * row_bytes
    content = contents.listing.read(branch, file.path, start, start + count * row_bytes)
    return decode(content, fact.dtype).reshape(count, width), fact.dtype
