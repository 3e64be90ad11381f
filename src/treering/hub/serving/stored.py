"""One repository of a store: its commits, and one small file that says what its branches point to."""

import dataclasses
import functools
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treering.errors import FormatError, IntegrityError
from treering.hub.serving.blobs import Blobs
from treering.hub.serving.names import refuse_revision_name
from treering.hub.serving.objects import Change, Commit, File, changed
from treering.hub.serving.refusals import Refusal, no_repository, no_revision
from treering.hub.serving.shelf import Refs, commit_at
from treering.provenance.canonical import read_record, write_record
from treering.provenance.files import remove_tree, storage_errors
from treering.revisions.branches import MAIN

_REPOSITORY, _COMMIT = ("hub-repository", 1), ("hub-commit", 1)
_MOST_FILES = 100_000


@dataclass(frozen=True)
class Message:
    """What is said of a commit, and the commit that its author took for the branch's last, if that was said."""

    title: str
    description: str = ""
    parent: str | None = None


class StoredRepository:
    """A repository that can be written to, one change after the other; readers see the state before it or after it."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        body = read_record(folder / "repository.json", *_REPOSITORY)
        self._folder, self._blobs = folder, blobs
        self._changing, self._removed = threading.Lock(), False
        self._read = functools.lru_cache(maxsize=1024)(self._read_commit)
        self.kind, self.name = str(body["kind"]), str(body["name"])
        self.refs = Refs(dict(body["branches"]), dict(body["tags"]))
        self._known = self._reachable()

    @classmethod
    def begin(cls, folder: Path, blobs: Blobs, key: tuple[str, str], first: Change) -> "StoredRepository":
        """Return a new repository whose branch `main` has one commit.

        Raises:
            StorageError: When it cannot be written.
        """
        commit = Commit(None, "initial commit", "", changed({}, [first], ""))
        _write_commit(folder, commit)
        _write_refs(folder, key, Refs({MAIN: commit.id}))
        return cls(folder, blobs)

    def commit(self, commit_id: str) -> Commit | None:
        """Return the commit of this id, or None where it has none.

        Raises:
            IntegrityError: When the commit on the disk is not what its name says.
        """
        return self._read(commit_id) if commit_id in self._known else None

    def content(self, file: File) -> Path:
        """Return where the content of one of its files lies."""
        return self._blobs.path(file.sha256)

    def push(self, branch: str, changes: Iterable[Change], message: Message) -> str:
        """Put a commit on a branch and return its id; all that it names is on the disk before the branch moves.

        Raises:
            Refusal: When there is no such branch, it has moved on from the parent named, or a change cannot be made.
            StorageError: When it cannot be written.
        """
        with self._to_change():
            if (head := self.refs.branches.get(branch)) is None:
                raise no_revision(branch)
            if message.parent is not None and not head.startswith(message.parent.lower()):
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            files = changed(commit_at(self, head).files, changes, head)
            if len(files) > _MOST_FILES:
                raise Refusal(413, f"these are too many files: more than {_MOST_FILES:,}")
            commit = Commit(head, message.title, message.description, files)
            _write_commit(self._folder, commit)
            self._known = self._known | {commit.id}
            self._move(branches={**self.refs.branches, branch: commit.id})
        return commit.id

    def add_branch(self, name: str, start: str) -> None:
        """Have a new branch point to the commit of a revision.

        Raises:
            Refusal: When there is a branch or a tag of this name, there is no such revision, or the name is not allowed.
            StorageError: When it cannot be written.
        """
        with self._to_change():
            self._move(branches={**self.refs.branches, name: self._start(name, start)})

    def add_tag(self, name: str, revision: str) -> None:
        """Have a new tag point to the commit of a revision.

        Raises:
            Refusal: As `add_branch`.
            StorageError: When it cannot be written.
        """
        with self._to_change():
            self._move(tags={**self.refs.tags, name: self._start(name, revision)})

    def remove_branch(self, name: str) -> None:
        """Take a branch away.

        Raises:
            Refusal: When there is none of this name, or it is `main`.
            StorageError: When it cannot be written.
        """
        if name == MAIN:
            raise Refusal(403, f"the branch {MAIN} cannot be deleted")
        with self._to_change():
            self._move(branches=_without(self.refs.branches, name))

    def remove_tag(self, name: str) -> None:
        """Take a tag away.

        Raises:
            Refusal: When there is none of this name.
            StorageError: When it cannot be written.
        """
        with self._to_change():
            self._move(tags=_without(self.refs.tags, name))

    def remove(self) -> None:
        """Take the repository off the disk.

        Raises:
            StorageError: When it cannot be written.
        """
        with self._to_change(), storage_errors(self._folder):
            self._removed = True
            (self._folder / "repository.json").unlink()  # with this it is gone, whatever interrupts the rest
            remove_tree(self._folder)

    def _start(self, name: str, revision: str) -> str:
        refuse_revision_name(name)
        if name in self.refs.branches or name in self.refs.tags:
            raise Refusal(409, f"Reference already exists: {name}")
        return commit_at(self, revision).id

    @contextmanager
    def _to_change(self) -> Iterator[None]:
        with self._changing:
            if self._removed:
                raise no_repository(self.name)
            yield

    def _move(self, **changes: Mapping[str, str]) -> None:
        refs = dataclasses.replace(self.refs, **changes)
        _write_refs(self._folder, (self.kind, self.name), refs)
        self.refs = refs

    def _reachable(self) -> frozenset[str]:
        """Return the commits that branches and tags lead to: one whose push was cut off is as if it had never been."""
        found: set[str] = set()
        waiting = [*self.refs.branches.values(), *self.refs.tags.values()]
        while waiting:
            if (commit := waiting.pop()) not in found:
                found.add(commit)
                parent = self._read(commit).parent
                waiting += [] if parent is None else [parent]
        return frozenset(found)

    def _read_commit(self, commit_id: str) -> Commit:
        path = self._folder / "commits" / f"{commit_id}.json"
        body = read_record(path, *_COMMIT)
        try:
            files = {str(name): File(**entry) for name, entry in body["files"].items()}
            commit = Commit(body["parent"], str(body["title"]), str(body["description"]), files)
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError("this commit lacks a field or has one of a wrong type", where=path, found=repr(error)) from error
        if commit.id != commit_id:
            raise IntegrityError("this commit is not what its name says", where=path, found=commit.id)
        return commit


def _write_commit(folder: Path, commit: Commit) -> None:
    files = {path: dataclasses.asdict(file) for path, file in commit.files.items()}
    body = {"parent": commit.parent, "title": commit.title, "description": commit.description, "files": files}
    write_record(folder / "commits" / f"{commit.id}.json", *_COMMIT, body)


def _write_refs(folder: Path, key: tuple[str, str], refs: Refs) -> None:
    kind, name = key
    body: dict[str, Any] = {"kind": kind, "name": name, "branches": dict(refs.branches), "tags": dict(refs.tags)}
    write_record(folder / "repository.json", *_REPOSITORY, body)


def _without(refs: Mapping[str, str], name: str) -> dict[str, str]:
    if name not in refs:
        raise no_revision(name)
    return {other: commit for other, commit in refs.items() if other != name}
