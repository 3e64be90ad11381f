"""Branches of different steps that have the same weights, for which there is no reason."""

from collections.abc import Iterator, Sequence

import numpy as np

from treering.hub.audit.contents import Contents
from treering.hub.audit.copies import contents_of, explained, shard_groups, tensor_groups, whole_groups
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.weights import FORMATS, weight_files
from treering.hub.listed import Branch
from treering.hub.strangers import named, shown

_FIRST_UPDATES = 4  # up to here a rate of 0 or a coarse number type may be why nothing changed
_UPLOAD = "upload the right weights to these branches, and say on the card until when they were wrong"


def check_equal(contents: Contents) -> Iterator[Finding]:
    """Yield the branches that have weights in common for which there is no reason."""
    listing = contents.listing
    for group in whole_groups(listing):
        if not explained(contents, group):
            yield _whole(contents, group)
    by_branches: dict[tuple[Branch, ...], list[str]] = {}
    for digest, branches in shard_groups(listing).items():
        by_branches.setdefault(branches, []).append(digest)
    for branches, digests in by_branches.items():
        yield _shards(branches, digests)
    shards = {frozenset(branch.name for branch in branches) for branches in by_branches}
    for names, tensors in tensor_groups(contents).items():
        if frozenset(names) not in shards:
            yield _tensors(contents, names, tensors)


def _whole(contents: Contents, group: tuple[Branch, ...]) -> Finding:
    first_updates = group == contents.listing.branches[: len(group)] and group[-1].step <= _FIRST_UPDATES
    files = [fact for form in FORMATS for fact in weight_files(group[0], form)]
    evidence = [f"{fact.path}: {fact.digest} on all of them" for fact in files[:3]]
    main = contents.listing.main
    if main is not None and any(contents_of(main, form) == contents_of(group[0], form) != () for form in FORMATS):
        evidence.append("`main` has these weights too")
    if near := _nearest(contents, group):
        evidence.append(f"of the other branches their weights are nearest to those of {near}")
    return Finding(
        "identical weights",
        Severity.WARNING if first_updates else Severity.ERROR,
        tuple(branch.name for branch in group),
        f"{len(group)} branches of different steps have the same weights: {named([branch.name for branch in group])}",
        tuple(evidence),
        "say on the card that the first updates had a rate of 0, or were lost in rounding; otherwise " + _UPLOAD
        if first_updates
        else _UPLOAD,
    )


def _shards(branches: tuple[Branch, ...], digests: Sequence[str]) -> Finding:
    names = tuple(branch.name for branch in branches)
    paths = {digest: fact.path for form in FORMATS for fact in weight_files(branches[0], form) for digest in [fact.digest]}
    return Finding(
        "identical shards",
        Severity.ERROR,
        names,
        f"{len(digests)} of the files of weights, and no more, can be found on each of {named(names)}",
        tuple(f"{shown(paths[digest])}: {digest}" for digest in digests[:3]),
        "upload the right file to the branches that are wrong: the one whose neighbours fit it is right",
    )


def _tensors(contents: Contents, names: tuple[str, ...], tensors: Sequence[str]) -> Finding:
    first = tuple(branch.name for branch in contents.listing.branches[: len(names)])
    early = names == first and contents.listing.branches[len(names) - 1].step <= 8 * _FIRST_UPDATES
    return Finding(
        "identical tensors",
        Severity.NOTE if early else Severity.ERROR,
        names,
        f"{len(tensors)} tensors that were looked at have the same numbers on {named(names)}, though the files differ",
        (named([shown(tensor) for tensor in tensors], 4),),
        "publish in fp32 if the first updates were lost in rounding" if early else _UPLOAD,
    )


def _nearest(contents: Contents, group: Sequence[Branch]) -> str | None:
    """Return which branch with weights of its own has those nearest to a group's."""
    mine = contents.weights(group[0])
    inside = {branch.name for other in whole_groups(contents.listing) for branch in other}
    best: tuple[float, str] | None = None
    for branch in contents.listing.branches if mine is not None else ():
        theirs = None if branch.name in inside else contents.weights(branch)
        if theirs is None or mine is None:
            continue
        pairs = [(mine.samples[name], theirs.samples[name]) for name in mine.samples.keys() & theirs.samples.keys()]
        alike = [(one, other) for one, other in pairs if len(one) == len(other) and one.any()]
        if alike:
            distance = float(np.median([np.linalg.norm(other - one) / np.linalg.norm(one) for one, other in alike]))
            best = min(best or (distance, branch.name), (distance, branch.name))
    return None if best is None else f"{best[1]} ({best[0]:.2g} of their length apart)"
