"""Sources that are files and folders: which files, in which order, and the digest of them all."""

import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from treering.config.schema import FileSource
from treering.corpus.documents import RawDocument, SourceRecord
from treering.corpus.readers import reader_of
from treering.corpus.streams import DigestedFile, read_errors
from treering.errors import CorpusError
from treering.provenance.digests import digest_value
from treering.provenance.progress import Task


class FoundFile(NamedTuple):
    """A file of a source: where it is, its path inside the source's folder, and the name the corpus gives it."""

    path: Path
    relative: str
    name: str


def read_path(source: FileSource, task: Task) -> Generator[RawDocument, None, SourceRecord]:
    """Yield the documents of a file, or of a folder's files one after another, and return what was read.

    Raises:
        CorpusError: When a file cannot be read as declared, or the content is not that of the recipe's digest.
    """
    files = [(found, reader_of(found.name, source)) for found in find_files(source.path)]
    documents_read = bytes_read = 0
    digests: list[list[str]] = []
    for found, reader in files:
        with DigestedFile(found.path, found.name, task) as file:
            for document in reader(file, source):
                documents_read += 1
                yield document
            digests.append([found.relative, file.digest()])
            bytes_read += file.size_bytes
    digest = _combine(source.path, digests)
    if source.digest not in (None, digest):
        raise CorpusError("the content is not what the recipe says", where=source.path, expected=source.digest, found=digest)
    return SourceRecord(source.path, "folder" if Path(source.path).is_dir() else "file", digest, documents_read, bytes_read)


def digest_path(path: str, task: Task) -> str:
    """Return the digest of a file's content, or of a folder's: of the list of relative paths and their digests.

    Raises:
        CorpusError: When a file cannot be read.
    """
    digests: list[list[str]] = []
    for found in find_files(path):
        with DigestedFile(found.path, found.name, task) as file:
            digests.append([found.relative, file.digest()])
    return _combine(path, digests)


def measure_path(path: str) -> int:
    """Return the size in bytes of a file, or of all files of a folder.

    Raises:
        CorpusError: When a file cannot be seen.
    """
    with read_errors(path):
        return sum(found.path.stat().st_size for found in find_files(path))


def find_files(path: str) -> list[FoundFile]:
    """Return a file, or all files of a folder and its folders in the order of their relative paths; hidden ones not.

    Raises:
        CorpusError: When there is no such place, it holds no file, or a name or link in it cannot be read.
    """
    root = Path(path)
    with read_errors(path):
        if not _is_folder(root):
            return [FoundFile(root, root.name, path)]
        relative_paths = sorted(_walk(root, "", ()))
    if not relative_paths:
        raise CorpusError("this folder holds no files", where=path, advice="hidden files are not read")
    return [FoundFile(root / relative, relative, f"{path.rstrip('/')}/{relative}") for relative in relative_paths]


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the paths of all files below a folder; links are followed, but not in circles."""
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        raise CorpusError("this link leads back to a folder above it", where=folder)
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        relative = prefix + _readable_name(entry)
        if _is_folder(entry):
            yield from _walk(entry, f"{relative}/", (*above, identity))
        else:
            yield relative


def _is_folder(path: Path) -> bool:
    """Return whether a place is a folder rather than a file; a link to nowhere is not taken for an absent file.

    Raises:
        CorpusError: When it is neither, such as a pipe, which could not be read twice.
        OSError: When it cannot be seen.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise CorpusError("this is neither a file nor a folder", where=path)
    return stat.S_ISDIR(mode)


def _readable_name(entry: Path) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError as error:
        raise CorpusError("this file's name is not UTF-8", where=repr(str(entry)), advice="rename it") from error
    return entry.name


def _combine(path: str, digests: list[list[str]]) -> str:
    return digest_value(digests) if Path(path).is_dir() else digests[0][1]
