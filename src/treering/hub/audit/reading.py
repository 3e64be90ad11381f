"""Reading of a release what the checks look at: documents whole, of its weights the headers and a few numbers."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from treering.errors import FormatError
from treering.hub.audit.contents import Contents, Place
from treering.hub.audit.headers import TensorFact, read_header
from treering.hub.audit.samples import Numbers, Slice, choose_slices, read_slices
from treering.hub.audit.scans import Scan, scan_file
from treering.hub.audit.selection import distinct, documents_of, is_too_long, records_of, within_budget
from treering.hub.audit.weights import SAFETENSORS, weight_files
from treering.hub.listed import Branch, FileFact, Listing
from treering.hub.listing import WORKERS
from treering.provenance.digests import digest_bytes
from treering.provenance.progress import Progress

_MOST_TENSORS = 2_000_000  # of all headers: some hundred bytes each
_MOST_NUMBERS = 1 << 30  # what is chosen of a release of a thousand branches has fewer

_Look = Callable[[Listing, Branch, FileFact], Any]


def read_contents(listing: Listing, progress: Progress, *, deep: bool = False) -> Contents:
    """Return what the checks look at of a release.

    Args:
        deep: Whether every byte of the weights is read, instead of a few.

    Raises:
        InputError: When the repository or a commit is gone, or may not be read.
        EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
    """
    contents = Contents(listing)
    documents, contents.left_out = within_budget(documents_of(listing))
    weights = distinct((branch, fact) for branch in listing.everything for fact in weight_files(branch, SAFETENSORS))
    with ThreadPoolExecutor(WORKERS) as pool:
        reader = _Reader(contents, pool, progress)
        reader.read(contents.texts, documents, _whole, "read settings")
        reader.read(contents.digests, records_of(listing, documents), _digest, "read records")
        reader.read(contents.headers, weights, _Headers(), "read headers")
        headed = [place for place in weights if place[1].digest in contents.headers]
        slices = slices_of(contents, deep=deep)
        sampled = list(_within_memory(contents, headed, slices))
        reader.read(contents.samples, sampled, functools.partial(_numbers, contents, slices), "read numbers")
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


class _Reader:
    """Reads each of some contents, several at a time, and keeps what was seen, or why it could not be."""

    def __init__(self, contents: Contents, pool: ThreadPoolExecutor, progress: Progress) -> None:
        self._contents, self._pool, self._progress = contents, pool, progress

    def read(self, into: dict[str, Any], places: Sequence[Place], look: _Look, name: str) -> None:
        def attempt(place: Place) -> None:
            try:
                into[place[1].digest] = look(self._contents.listing, *place)
            except FormatError as error:
                self._contents.unreadable[place[1].digest] = str(error)

        with self._progress.task(name, len(places), "files") as task:
            self._contents.listing.watch(task)
            for _ in self._pool.map(attempt, places):
                task.advance()


def _whole(listing: Listing, branch: Branch, fact: FileFact) -> bytes:
    if is_too_long(fact):
        raise FormatError("this file is too long to be looked at", where=fact.path, found=f"{fact.size_bytes:,} bytes")
    return listing.read(branch, fact.path, 0, fact.size_bytes)


def _digest(listing: Listing, branch: Branch, fact: FileFact) -> str:
    return digest_bytes(listing.read(branch, fact.path, 0, fact.size_bytes))


class _Headers:
    """Reads headers, until they have more tensors than fit into memory."""

    def __init__(self) -> None:
        self._left, self._lock = _MOST_TENSORS, threading.Lock()

    def __call__(self, listing: Listing, branch: Branch, fact: FileFact) -> dict[str, TensorFact]:
        read, where = functools.partial(listing.read, branch, fact.path), f"{branch.name}, {fact.path}"
        tensors = read_header(read, fact.size_bytes, where)
        with self._lock:
            self._left -= len(tensors)
            if self._left < 0:
                raise FormatError("this release has more tensors than an audit can look at", where=where)
        return tensors


def _within_memory(contents: Contents, places: Sequence[Place], slices: Sequence[Slice]) -> Iterator[Place]:
    """Yield the files of weights until what is read of them is too much, and note that the others cannot be read."""
    lengths, left = {part.tensor: part.length for part in slices}, _MOST_NUMBERS
    for branch, fact in places:
        left -= sum(lengths.get(tensor, 0) for tensor in contents.headers[fact.digest])
        if left >= 0:
            yield branch, fact
        else:
            contents.unreadable[fact.digest] = "this release has more files with the same tensors than an audit can look at"


def _numbers(
    contents: Contents, slices: Sequence[Slice], listing: Listing, branch: Branch, fact: FileFact
) -> dict[str, Numbers]:
    return read_slices(functools.partial(listing.read, branch, fact.path), contents.headers[fact.digest], slices)


def _scan(contents: Contents, listing: Listing, branch: Branch, fact: FileFact) -> Scan:
    read = functools.partial(listing.read, branch, fact.path)
    return scan_file(read, fact.size_bytes, contents.headers[fact.digest])
