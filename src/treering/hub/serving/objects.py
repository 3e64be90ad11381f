"""What a repository is made of: files, trees and commits, under the ids that git gives them."""

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from treering.hub.serving.refusals import Refusal, no_entry

# What the Hub's own .gitattributes has of what it keeps as large files.
LARGE_SUFFIXES = (
    *(".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gz", ".h5", ".joblib", ".mlmodel", ".model", ".msgpack", ".npy"),
    *(".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl", ".pt", ".pth", ".rar", ".safetensors", ".tar", ".tflite"),
    *(".tgz", ".wasm", ".xz", ".zip", ".zst"),
)
SAMPLE_BYTES = 512
_LARGE_BYTES = 10 << 20
_AUTHOR = "treering <treering@localhost> 0 +0000"  # without a clock, equal content has equal commits


@dataclass(frozen=True)
class File:
    """A file of a commit.

    `git_id` is git's id of what stands in the tree: the content or, of a large file, the pointer to it. Digests are in hex.
    """

    size_bytes: int
    sha256: str
    git_id: str
    large: bool

    @property
    def etag(self) -> str:
        """What the Hub calls the content."""
        return self.sha256 if self.large else self.git_id


class Change(NamedTuple):
    """A file put into a commit under a path, or what lies under a path taken out of it."""

    path: str
    file: File | None
    folder: bool = False


@dataclass(frozen=True)
class Commit:
    """All files at one moment, what was said of them, and the commit before."""

    parent: str | None
    title: str
    description: str
    files: Mapping[str, File]

    @functools.cached_property
    def trees(self) -> Mapping[str, str]:
        """Git's id of each folder by its path; the whole is under the empty one."""
        return _tree_ids(self.files)

    @functools.cached_property
    def id(self) -> str:
        """Git's id: a function of files, parent and message."""
        message = f"{self.title}\n\n{self.description}" if self.description else self.title
        parent = "" if self.parent is None else f"parent {self.parent}\n"
        text = f"tree {self.trees['']}\n{parent}author {_AUTHOR}\ncommitter {_AUTHOR}\n\n{message}\n"
        return git_id("commit", text.encode())


def describe(path: str, content: bytes) -> File:
    """Return what a commit says of a file with this content."""
    sha256 = hashlib.sha256(content).hexdigest()
    if is_large(path, len(content), content[:SAMPLE_BYTES]):
        return large_file(sha256, len(content))
    return File(len(content), sha256, git_id("blob", content), large=False)


def large_file(sha256: str, size_bytes: int) -> File:
    """Return what a commit says of a large file."""
    return File(size_bytes, sha256, git_id("blob", pointer(sha256, size_bytes)), large=True)


def is_large(path: str, size_bytes: int, sample: bytes) -> bool:
    """Say whether the Hub keeps a file as a large one: for its name, its size, or because it begins as no text does."""
    return size_bytes > _LARGE_BYTES or (size_bytes > 0 and (path.lower().endswith(LARGE_SUFFIXES) or b"\0" in sample))


def pointer(sha256: str, size_bytes: int) -> bytes:
    """Return what stands in git's tree in place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n".encode()


def git_id(kind: str, content: bytes) -> str:
    """Return the id that git gives an object of a kind: a name, not a proof."""
    return hashlib.sha1(b"%s %d\0%s" % (kind.encode(), len(content), content), usedforsecurity=False).hexdigest()


def changed(files: Mapping[str, File], changes: Iterable[Change], head: str) -> dict[str, File]:
    """Return a commit's files after changes, one after the other.

    Raises:
        Refusal: When something is taken out that is not there, or a path is to be both a file and a folder.
    """
    after = dict(files)
    for change in changes:
        if change.file is not None:
            after[change.path] = change.file
            continue
        gone = [change.path] if not change.folder else [path for path in after if path.startswith(change.path + "/")]
        if not gone or gone[0] not in after:
            raise no_entry(change.path, head)
        for path in gone:
            del after[path]
    folders = {path[:end] for path in after for end, character in enumerate(path) if character == "/"}
    if both := sorted(folders.intersection(after)):
        raise Refusal(400, f"{both[0]} is to be both a file and a folder")
    return after


def _tree_ids(files: Mapping[str, File]) -> dict[str, str]:
    entries: dict[str, list[tuple[bytes, bytes]]] = {"": []}  # of each folder: what git sorts by, and its line
    for path, file in files.items():
        folder, _, name = path.rpartition("/")
        for end in (end for end, character in enumerate(path) if character == "/"):
            entries.setdefault(path[:end], [])
        entries[folder].append((name.encode(), b"100644 %s\0%s" % (name.encode(), bytes.fromhex(file.git_id))))
    ids: dict[str, str] = {}
    for folder in sorted(entries, key=lambda path: (path.count("/") + bool(path), path), reverse=True):  # the deepest first
        ids[folder] = git_id("tree", b"".join(line for _, line in sorted(entries[folder])))
        above, _, name = folder.rpartition("/")
        if folder:
            entries[above].append((name.encode() + b"/", b"40000 %s\0%s" % (name.encode(), bytes.fromhex(ids[folder]))))
    return ids
