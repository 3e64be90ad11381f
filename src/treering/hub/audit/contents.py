"""What was read of a release: settings and records whole, of its weights the headers and a few numbers, each content once."""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from treering.errors import FormatError
from treering.hub.audit.headers import TensorFact, read_header
from treering.hub.audit.samples import Numbers, Slice, choose_slices, read_slices
from treering.hub.audit.scans import Scan, scan_file
from treering.hub.audit.weights import SAFETENSORS, missing_shards, weight_files
from treering.hub.listing import WORKERS, Branch, FileFact, Listing, plain
from treering.provenance.progress import Progress

MOST_DOCUMENT_BYTES = 64_000_000
SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TOKENIZER = "tokenizer.json"
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
CARD, _MOST_CARD_LETTERS = "README.md", 1_000_000
_OF_EACH = (*SETTINGS, TOKENIZER, *INDICES, "revision.json")
_OF_MAIN = (CARD, "recipe.yaml")
# Of a release by treering, records; what git keeps has no digest that its manifests list.
_MOST_RECORD_BYTES = 8_000_000


@dataclass(frozen=True)
class Weights:
    """What was seen of a branch's weights: the tensors of its files by name, and numbers of some of them."""

    tensors: Mapping[str, TensorFact]
    samples: Mapping[str, Numbers]


@dataclass
class Contents:
    """What was read, by the digests of files; `unreadable` says why of those that could not be."""

    listing: Listing
    texts: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, TensorFact]] = field(default_factory=dict)
    samples: dict[str, dict[str, Numbers]] = field(default_factory=dict)
    scans: dict[str, Scan] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    _documents: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    def text(self, branch: Branch | None, path: str) -> str | None:
        """Return a file of a branch as text, or None where it has none or it was not read."""
        fact = None if branch is None else branch.files.get(path)
        content = None if fact is None else self.texts.get(fact.digest)
        return None if content is None else content.decode(errors="replace")

    @property
    def card(self) -> str | None:
        """The card, of one that never ends the beginning, or None where there is none."""
        text = self.text(self.listing.main, CARD)
        return None if text is None else text[:_MOST_CARD_LETTERS]

    def document(self, branch: Branch | None, path: str) -> dict[str, Any] | None:
        """Return a file of a branch as a JSON object, or None where it is none or was not read."""
        fact = None if branch is None else branch.files.get(path)
        content = None if fact is None else self.texts.get(fact.digest)
        if fact is None or content is None:
            return None
        if fact.digest not in self._documents:
            self._documents[fact.digest] = _object(content)
        return self._documents[fact.digest]

    def alike(self, paths: Sequence[str]) -> list[tuple[tuple[Branch, ...], dict[str, dict[str, Any]]]]:
        """Return the branches that have the same files by these paths, and those files as JSON objects, empty where none."""
        groups: dict[tuple[str | None, ...], list[Branch]] = {}
        for branch in self.listing.everything:
            digests = (branch.files[path].digest if path in branch.files else None for path in paths)
            groups.setdefault(tuple(digests), []).append(branch)
        return [
            (tuple(branches), {path: self.document(branches[0], path) or {} for path in paths}) for branches in groups.values()
        ]

    def weights(self, branch: Branch) -> Weights | None:
        """Return what was seen of a branch's weights, or None where they are no safetensors, or not all there."""
        files = weight_files(branch, SAFETENSORS)
        if not files or missing_shards(branch, SAFETENSORS, set()) or any(file.digest not in self.headers for file in files):
            return None
        tensors = {name: fact for file in files for name, fact in self.headers[file.digest].items()}
        samples = {name: part for file in files for name, part in self.samples.get(file.digest, {}).items()}
        return Weights(tensors, samples)


def read_contents(listing: Listing, progress: Progress, *, deep: bool = False) -> Contents:
    """Return what the checks look at of a release.

    Args:
        deep: Whether every byte of the weights is read, instead of a few.

    Raises:
        InputError: When the repository or a commit is gone, or may not be read.
        EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
    """
    contents = Contents(listing)
    documents = _distinct((branch, fact) for branch in listing.everything for fact in _documents(branch, listing))
    weights = _distinct((branch, fact) for branch in listing.everything for fact in weight_files(branch, SAFETENSORS))
    with ThreadPoolExecutor(WORKERS) as pool:
        reader = _Reader(contents, pool, progress)
        reader.read(contents.texts, documents, _whole, "read settings")
        reader.read(contents.headers, weights, _header, "read headers")
        headed = [place for place in weights if place[1].digest in contents.headers]
        slices = slices_of(contents, deep=deep)
        reader.read(contents.samples, headed, functools.partial(_numbers, contents, slices), "read numbers")
        if deep:
            reader.read(contents.scans, headed, functools.partial(_scan, contents), "read weights")
    return contents


def slices_of(contents: Contents, *, deep: bool = False) -> tuple[Slice, ...]:
    """Return which numbers are read: chosen by the first branch in the order of the training whose headers are all there."""
    for branch in contents.listing.everything:
        files = weight_files(branch, SAFETENSORS)
        if files and all(file.digest in contents.headers for file in files):
            headers = [contents.headers[file.digest] for file in files]
            return choose_slices(headers, len(contents.listing.everything), every_layer=deep)
    return ()


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


_Place = tuple[Branch, FileFact]
_Look = Callable[[Listing, Branch, FileFact], Any]


def _documents(branch: Branch, listing: Listing) -> list[FileFact]:
    names = [*_OF_EACH, *(_OF_MAIN if branch is listing.main else ())]
    found = [branch.files[name] for name in names if name in branch.files]
    if branch is listing.main and "revisions/revisions.json" in branch.files:
        found += [fact for fact in branch.files.values() if fact.size_bytes <= _MOST_RECORD_BYTES and _is_record(fact)]
    return found


def _is_record(fact: FileFact) -> bool:
    return fact.path.endswith(("manifest.json", "revisions.json")) or fact.digest.startswith("git:")


def _distinct(places: Iterable[_Place]) -> list[_Place]:
    """Return each content once, at the first place that has it."""
    return list({fact.digest: (branch, fact) for branch, fact in reversed(list(places)) if plain(fact.path)}.values())[::-1]


class _Reader:
    """Reads each of some contents, several at a time, and keeps what was seen, or why it could not be."""

    def __init__(self, contents: Contents, pool: ThreadPoolExecutor, progress: Progress) -> None:
        self._contents, self._pool, self._progress = contents, pool, progress

    def read(self, into: dict[str, Any], places: Sequence[_Place], look: _Look, name: str) -> None:
        def attempt(place: _Place) -> None:
            try:
                into[place[1].digest] = look(self._contents.listing, *place)
            except FormatError as error:
                self._contents.unreadable[place[1].digest] = str(error)

        with self._progress.task(name, len(places), "files") as task:
            self._contents.listing.watch(task)
            for _ in self._pool.map(attempt, places):
                task.advance()


def _whole(listing: Listing, branch: Branch, fact: FileFact) -> bytes:
    if fact.size_bytes > MOST_DOCUMENT_BYTES:
        raise FormatError("this file is too long to be looked at", where=fact.path, found=f"{fact.size_bytes:,} bytes")
    return listing.read(branch, fact.path, 0, fact.size_bytes)


def _header(listing: Listing, branch: Branch, fact: FileFact) -> dict[str, TensorFact]:
    return read_header(functools.partial(listing.read, branch, fact.path), fact.size_bytes, f"{branch.name}, {fact.path}")


def _numbers(
    contents: Contents, slices: Sequence[Slice], listing: Listing, branch: Branch, fact: FileFact
) -> dict[str, Numbers]:
    return read_slices(functools.partial(listing.read, branch, fact.path), contents.headers[fact.digest], slices)


def _scan(contents: Contents, listing: Listing, branch: Branch, fact: FileFact) -> Scan:
    read = functools.partial(listing.read, branch, fact.path)
    return scan_file(read, fact.size_bytes, contents.headers[fact.digest])
