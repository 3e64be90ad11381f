"""Which branches have weights in common: whole, by single shards, or by single tensors in files that differ elsewhere."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from treering.hub.audit.contents import Contents, Weights
from treering.hub.audit.own import equal_as_told
from treering.hub.audit.weights import FORMATS, SAFETENSORS, weight_files
from treering.hub.listed import Branch, Listing

_FEWEST_NUMBERS = 1024


@dataclass(frozen=True)
class Copies:
    """Branches all of whose weights are another one's too, and the tensors of others that are."""

    whole: frozenset[str]
    tensors: Mapping[str, frozenset[str]]


def whole_groups(listing: Listing) -> list[tuple[Branch, ...]]:
    """Return the branches of steps that have all their weights in common, in the order of the training."""
    groups: dict[str, set[str]] = {}
    for form in FORMATS:
        for names in _grouped((branch, contents_of(branch, form)) for branch in listing.branches):
            union = set(names).union(*(groups.get(name, set()) for name in names))
            groups.update(dict.fromkeys(union, union))
    distinct = {id(names): names for names in groups.values()}
    return [tuple(branch for branch in listing.branches if branch.name in names) for names in distinct.values()]


def shard_groups(listing: Listing) -> dict[str, tuple[Branch, ...]]:
    """Return, by their digests, the files of weights that branches have in common whose other files differ."""
    together = {branch.name: number for number, group in enumerate(whole_groups(listing)) for branch in group}
    found: dict[str, list[Branch]] = {}
    for branch in listing.branches:
        for form in FORMATS:
            for fact in weight_files(branch, form):
                found.setdefault(fact.digest, []).append(branch)
    several = {digest: tuple(dict.fromkeys(branches)) for digest, branches in found.items()}
    return {
        digest: branches
        for digest, branches in several.items()
        if len({together.get(branch.name, branch.name) for branch in branches}) > 1
    }


def tensor_groups(contents: Contents) -> dict[tuple[str, ...], list[str]]:
    """Return the tensors whose numbers, as far as they were read, branches have in common although their files differ.

    Tensors of one dimension and of a single number repeated stay alike for other reasons.
    """
    found: dict[tuple[str, str], dict[str, Branch]] = {}
    for branch in contents.listing.branches:
        if (weights := contents.weights(branch)) is None:
            continue
        for tensor, content in _fingerprints(contents, branch, weights):
            found.setdefault((tensor, content), {})[branch.name] = branch
    groups: dict[tuple[str, ...], list[str]] = {}
    for (tensor, _), branches in found.items():
        files = {digest for branch in branches.values() for digest in _holding(contents, branch, tensor)}
        if len(branches) > 1 and len(files) > 1:
            groups.setdefault(tuple(branches), []).append(tensor)
    return groups


def repeated(contents: Contents) -> Copies:
    """Return which branches' weights cannot be told from others': of a group that treering explains, the first is kept."""
    whole: set[str] = set()
    for group in whole_groups(contents.listing):
        whole.update(branch.name for branch in (group[1:] if explained(contents, group) else group))
    tensors: dict[str, frozenset[str]] = {}
    shards = {digest: branches for digest, branches in shard_groups(contents.listing).items() if digest in contents.headers}
    for digest, branches in shards.items():
        for branch in branches:
            tensors[branch.name] = tensors.get(branch.name, frozenset()) | contents.headers[digest].keys()
    for names, alike in tensor_groups(contents).items():
        for name in names:
            tensors[name] = tensors.get(name, frozenset()).union(alike)
    return Copies(frozenset(whole), tensors)


def explained(contents: Contents, group: Sequence[Branch]) -> bool:
    """Return whether treering's records say of branches in a row why each has the weights of the one before."""
    return all(equal_as_told(contents, earlier, later) for earlier, later in pairwise(group))


def _grouped(keyed: Iterable[tuple[Branch, tuple[str, ...]]]) -> list[list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for branch, key in keyed:
        if key:
            found.setdefault(key, []).append(branch.name)
    return [names for names in found.values() if len(names) > 1]


def contents_of(branch: Branch, form: str) -> tuple[str, ...]:
    """Return what tells a branch's weights in a format from others: the digests of their files; none where it has none."""
    return tuple(sorted(fact.digest for fact in weight_files(branch, form)))


def _holding(contents: Contents, branch: Branch, tensor: str) -> list[str]:
    files = weight_files(branch, SAFETENSORS)
    return [fact.digest for fact in files if tensor in contents.headers.get(fact.digest, {})]


def _fingerprints(contents: Contents, branch: Branch, weights: Weights) -> Iterator[tuple[str, str]]:
    """Yield the tensors that tell branches apart, each with a digest of its numbers: of all where the file was read whole."""
    scanned = {
        name: digest
        for fact in weight_files(branch, SAFETENSORS)
        if fact.digest in contents.scans
        for name, digest in contents.scans[fact.digest].tensors.items()
    }
    for tensor, numbers in weights.samples.items():
        if len(weights.tensors[tensor].shape) > 1 and len(numbers) >= _FEWEST_NUMBERS and bool((numbers != numbers[0]).any()):
            yield tensor, scanned.get(tensor) or hashlib.sha256(numbers.tobytes()).hexdigest()
