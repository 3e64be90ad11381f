"""Two releases beside each other: whether they begin with the same weights, read the same data, and stay apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from treering.hub.audit.contents import Contents, Weights
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.own import recipe_of
from treering.hub.audit.rows import Rows, same_rows
from treering.hub.listed import Branch
from treering.hub.strangers import shown

_SAME, _NEAR = 1e-6, 0.01  # of their length apart
_MEETING = 10.0  # times nearer than before: what began apart does not come together
_INDEPENDENT_DEVIATIONS = 5.0
_MATRIX = 2
_CLAIMS = ("start", "order")


class Apart(NamedTuple):
    """How far two releases are apart at a step: medians over matrices of relative distance and cosine, and numbers of one."""

    step: int
    distance: float
    cosine: float
    numbers: int


@dataclass(frozen=True)
class Comparison:
    """What was seen of two releases: distances at common steps, the rows that first updates moved, what they claim to share."""

    apart: tuple[Apart, ...]
    rows: Rows | None
    claims: tuple[str, ...]

    @property
    def start(self) -> str:
        """What their first common step shows: `same`, `near`, `independent`, `related` or `unknown`."""
        if not self.apart:
            return "unknown"
        first = self.apart[0]
        if first.distance <= _SAME:
            return "same"
        if first.distance <= _NEAR:
            return "near"
        return "independent" if abs(first.cosine) <= _INDEPENDENT_DEVIATIONS / first.numbers**0.5 else "related"

    @property
    def order(self) -> str:
        """What the rows that first updates moved show: `same`, `different`, `unclear` or `unknown`."""
        return "unknown" if self.rows is None else self.rows.verdict

    def record(self) -> dict[str, Any]:
        """Return it as a record has it."""
        rows = None if self.rows is None else self.rows.record()
        steps = [{"step": one.step, "distance": one.distance, "cosine": one.cosine} for one in self.apart]
        return {"start": self.start, "order": self.order, "claims": list(self.claims), "steps": steps, "rows": rows}


def compare(one: Contents, other: Contents, claims: Sequence[str] = ()) -> Comparison:
    """Return what two releases show of their start and the order of their data.

    Args:
        claims: `start`, `order`: what they are said to share; their recipes, where both have one, say it too.

    Raises:
        EnvironmentMismatch: When a Hub cannot be reached, or does not answer as one does.
        FormatError: When a file is listed and cannot be had.
    """
    pairs = _pairs(one, other)
    claimed = {*claims, *_claimed(one, other)}
    told = tuple(claim for claim in _CLAIMS if claim in claimed)
    return Comparison(tuple(_apart(one, other, pairs)), same_rows(one, other, pairs), told)


def check_comparison(comparison: Comparison, names: tuple[str, str]) -> Iterator[Finding]:
    """Yield what two releases claim to share and do not, and where they come together, which no two trainings do."""
    one, other = (shown(name, 120) for name in names)
    if "start" in comparison.claims and comparison.start not in ("same", "near", "unknown"):
        first = comparison.apart[0]
        problem = f"{one} and {other} are said to start from the same weights, and do not"
        evidence = (f"at step{first.step} they are {first.distance:.3g} of their length apart, cosine {first.cosine:.4f}",)
        advice = "find out which one's first weights are not its own"
        yield Finding("other start", Severity.ERROR, (f"step{first.step}",), problem, evidence, advice)
    if "order" in comparison.claims and comparison.order == "different" and comparison.rows is not None:
        problem = f"{one} and {other} are said to read the same data in the same order, and do not"
        name = f"step{comparison.rows.after}"
        advice = "compare what they were started with: seeds, data, the number of GPUs"
        yield Finding("other order", Severity.ERROR, (name,), problem, (comparison.rows.text,), advice)
    yield from _meetings(comparison.apart, one, other)


def _meetings(apart: Sequence[Apart], one: str, other: str) -> Iterator[Finding]:
    farthest: Apart | None = None
    for here in apart:
        if farthest is not None and farthest.distance > _NEAR and here.distance * _MEETING < farthest.distance:
            problem = (
                f"{one} and {other} come together between step{farthest.step} and step{here.step}, which no two trainings do"
            )
            distances = (
                f"step{farthest.step}: {farthest.distance:.3g} of their length apart; step{here.step}: {here.distance:.3g}"
            )
            evidence = (distances,)
            advice = "one of the branches at either step is of another run than it says"
            yield Finding("runs meet", Severity.ERROR, (f"step{farthest.step}", f"step{here.step}"), problem, evidence, advice)
            return
        farthest = here if farthest is None or here.distance > farthest.distance else farthest


def _pairs(one: Contents, other: Contents) -> list[tuple[Branch, Branch]]:
    theirs = {(branch.place or (0, 0))[:2]: branch for branch in reversed(other.listing.branches)}
    found = [(branch, theirs.get((branch.place or (0, 0))[:2])) for branch in one.listing.branches]
    return [(mine, match) for mine, match in found if match is not None]


def _apart(one: Contents, other: Contents, pairs: Sequence[tuple[Branch, Branch]]) -> Iterator[Apart]:
    for first, second in pairs:
        mine, theirs = one.weights(first), other.weights(second)
        if mine is None or theirs is None:
            continue
        alike = [
            (a, b)
            for name in mine.samples
            if (a := _row(mine, name, theirs)) is not None and (b := _row(theirs, name, mine)) is not None
        ]
        if alike:
            distances = [float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in alike]
            cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in alike]
            yield Apart(first.step, float(np.median(distances)), float(np.median(cosines)), min(len(a) for a, _ in alike))


def _row(weights: Weights, name: str, other: Weights) -> NDArray[np.float64] | None:
    """Return what was read of a matrix, as far as it was of the other one too; None where they are of no use together."""
    if name not in other.samples or name not in weights.samples or len(weights.tensors[name].shape) < _MATRIX:
        return None
    row = weights.samples[name][: len(other.samples[name])].astype(np.float64)
    return row if weights.tensors[name].shape == other.tensors[name].shape and row.any() else None


def _claimed(one: Contents, other: Contents) -> Iterator[str]:
    """Yield what two recipes say the runs share: the sections that first weights, or the order of the data, follow from."""
    mine, theirs = recipe_of(one), recipe_of(other)
    if mine is None or theirs is None:
        return
    if mine.model == theirs.model:
        yield "start"
    sections = ((mine.corpus, theirs.corpus), (mine.tokens, theirs.tokens), (mine.order, theirs.order))
    sizes = mine.training.global_batch_size, theirs.training.global_batch_size
    if sizes[0] == sizes[1] and all(first == second for first, second in sections):
        yield "order"
