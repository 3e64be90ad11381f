"""The two ends of a training: the first step is not the last, and `main` is the last one there is."""

from collections.abc import Iterator

import numpy as np

from treering.hub.audit.contents import Contents, Weights
from treering.hub.audit.copies import contents_of
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.weights import FORMATS
from treering.hub.listed import Branch

_ROUNDING = 0.004  # of bf16, of a tensor's length


def check_ends(contents: Contents) -> Iterator[Finding]:
    """Yield where the first step has the weights of the last, or `main` has others than the last."""
    branches, main = contents.listing.branches, contents.listing.main
    if len(branches) < 2:
        return
    first, last = branches[0], branches[-1]
    for other in (last, main):
        if other is not None and _same(contents, first, other):
            yield Finding(
                "first is last",
                Severity.ERROR,
                (first.name, other.name),
                f"{first.name}, the first branch, has the weights of {other.name}",
                (_evidence(first),),
                f"upload the first weights to {first.name}: results over training that begin with it are wrong",
            )
            break
    if main is not None and _same(contents, main, last) is False:
        several = (
            len([series for series in contents.listing.series if (series[-1].place or (0,))[0] == (last.place or (0,))[0]]) > 1
        )
        yield Finding(
            "main is not the last",
            Severity.NOTE if several else Severity.WARNING,
            ("main", last.name),
            f"`main` does not have the weights of {last.name}, the last branch",
            (f"main: {_evidence(main)}", f"{last.name}: {_evidence(last)}"),
            "say on the card which weights `main` has" if several else "bring `main` to the last step, or say what it is",
        )


def _same(contents: Contents, one: Branch, other: Branch) -> bool | None:
    """Return whether two branches have the same weights; None where they cannot be compared."""
    files = [(contents_of(one, form), contents_of(other, form)) for form in FORMATS]
    both = [(mine, theirs) for mine, theirs in files if mine and theirs]
    if any(mine == theirs for mine, theirs in both):
        return True
    mine, theirs = contents.weights(one), contents.weights(other)
    if mine is None or theirs is None:
        return False if any(len(mine) == len(theirs) for mine, theirs in both) else None
    shared = [name for name in mine.samples if name in theirs.samples and len(mine.samples[name]) == len(theirs.samples[name])]
    return all(_alike(mine, theirs, name) for name in shared) if shared else None


def _alike(mine: Weights, theirs: Weights, name: str) -> bool:
    """Return whether a tensor has the same numbers in both, up to rounding where it has two number types."""
    one, other = mine.samples[name], theirs.samples[name]
    if mine.tensors[name].dtype == theirs.tensors[name].dtype:
        return bool((one == other).all())
    return float(np.linalg.norm(one - other)) <= _ROUNDING * float(np.linalg.norm(one))


def _evidence(branch: Branch) -> str:
    return next((", ".join(contents_of(branch, form)[:2]) for form in FORMATS if contents_of(branch, form)), "no weights")
