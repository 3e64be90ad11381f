"""Repositories in a folder, for pushes to be staged in: contents by their digest, commits, and what branches point to."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from treering.errors import InputError
from treering.hub.serving.blobs import Blobs
from treering.hub.serving.names import refuse_repository_name
from treering.hub.serving.objects import LARGE_SUFFIXES, Change
from treering.hub.serving.refusals import Refusal, no_repository
from treering.hub.serving.stored import StoredRepository
from treering.provenance.canonical import read_record, write_record
from treering.provenance.files import held, remove_tree

STORE = "store.json"
_FORMAT = ("hub-store", 1)
_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_SUFFIXES).encode()


class Store:
    """All repositories of a folder; what a request names is looked up among them and never becomes a path."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self.blobs = blobs
        self._folder = folder / "repositories"
        self._changing = threading.Lock()
        found = [StoredRepository(path.parent, blobs) for path in sorted(self._folder.glob("*/repository.json"))]
        self.repositories: Mapping[tuple[str, str], StoredRepository] = {(one.kind, one.name): one for one in found}

    def create(self, kind: str, name: str) -> StoredRepository:
        """Return a new repository, whose first commit says which files are large.

        Raises:
            Refusal: When there is one of this name, or the Hub allows no such name.
            StorageError: When it cannot be written.
        """
        refuse_repository_name(name)
        attributes = self.blobs.add_small(".gitattributes", _ATTRIBUTES)
        with self._changing:
            if (kind, name) in self.repositories:
                raise Refusal(409, f"there is a repository {name} here already")
            folder = self._folder / hashlib.sha256(f"{kind}/{name}".encode()).hexdigest()
            remove_tree(folder)  # of one that was taken away, or never finished
            first = Change(".gitattributes", attributes)
            created = StoredRepository.begin(folder, self.blobs, (kind, name), first)
            self.repositories = {**self.repositories, (kind, name): created}
        return created

    def find(self, kind: str, name: str) -> StoredRepository:
        """Return a repository.

        Raises:
            Refusal: When there is none of this name.
        """
        if (found := self.repositories.get((kind, name))) is None:
            raise no_repository(name)
        return found

    def delete(self, kind: str, name: str) -> None:
        """Take a repository away, at once and for good; contents stay, as other repositories may have them too.

        Raises:
            Refusal: When there is none of this name.
        """
        with self._changing:
            self.find(kind, name).remove()
            self.repositories = {key: one for key, one in self.repositories.items() if key != (kind, name)}


@contextmanager
def open_store(folder: Path, *, writable: bool) -> Iterator[Store]:
    """Open a folder's repositories until the block ends; where they are to be written to, no other process opens them.

    Raises:
        InputError: When the folder is no store and none may be made of it, or another process has it open.
        FormatError: When its records cannot be read.
        IntegrityError: When a commit is not what its name says.
        StorageError: When the folder cannot be written.
    """
    _refuse_foreign(folder, writable)
    with held(folder, shared=not writable):
        if not (folder / STORE).exists():
            write_record(folder / STORE, *_FORMAT, {})
        read_record(folder / STORE, *_FORMAT)
        blobs = Blobs(folder)
        if writable:
            blobs.tidy()
        yield Store(folder, blobs)


def _refuse_foreign(folder: Path, writable: bool) -> None:
    if (folder / STORE).is_file():
        return
    if folder.exists() and (not folder.is_dir() or any(path.name != ".lock" for path in folder.iterdir())):
        raise InputError("this is neither a run nor a folder that `treering serve` made", where=folder)
    if not writable:
        raise InputError("there is nothing to serve here", where=folder, advice="give a run, or --writable to push to it")
