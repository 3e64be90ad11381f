"""Files and folders that are whole or absent, whatever interrupts the writing."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, BinaryIO

from treering.errors import InputError, StorageError

_STORAGE_PROBLEMS = {
    errno.ENOSPC: ("the disk is full", "free space, then run the same command again: what is whole is kept"),
    errno.EDQUOT: ("the disk quota is used up", "free space, then run the same command again: what is whole is kept"),
    errno.EFBIG: ("the file would exceed the largest size allowed here", "raise the limit (ulimit -f) or use another disk"),
    errno.EROFS: ("the file system is read-only", "choose a folder that can be written"),
    errno.EACCES: ("this may not be written", "choose a folder that can be written, or mend its permissions"),
    errno.EPERM: ("this may not be written", "choose a folder that can be written, or mend its permissions"),
    errno.ENOTDIR: ("a file stands where a folder is needed", "move the file away, or choose another folder"),
    errno.EEXIST: ("a file stands where a folder is needed", "move the file away, or choose another folder"),
    errno.EISDIR: ("a folder stands where a file is needed", "move the folder away, or choose another"),
    errno.ENAMETOOLONG: ("the path is too long for this file system", "choose a folder nearer to the root"),
    errno.EIO: ("the disk reports an error", "check the disk, then run the same command again: what is whole is kept"),
}
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn a full disk or an unwritable folder into a StorageError that names the place.

    Raises:
        StorageError: When the operating system refuses to write.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _STORAGE_PROBLEMS:
            raise
        problem, advice = _STORAGE_PROBLEMS[error.errno]
        raise StorageError(problem, where=error.filename or where, found=os.strerror(error.errno), advice=advice) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole under its name or not there.

    Raises:
        StorageError: When the disk is full or the folder cannot be written.
    """
    with written_atomically(path) as file:
        file.write(content)


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write piece by piece; it is under its name only when the block ends without an error.

    Raises:
        StorageError: When the disk is full or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # another process may write the same
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the place of `target` only when the block ends without an error.

    What an interrupted attempt has left is removed first; after an error the unfinished folder is removed.

    Raises:
        StorageError: When the disk is full or the folder cannot be written.
    """
    partial = target.with_name(f".{target.name}.partial")
    retired = target.with_name(f".{target.name}.retired")
    with storage_errors(target):
        remove_tree(partial)
        remove_tree(retired)
        partial.mkdir(parents=True)
        try:
            yield partial
            sync_tree(partial)
            _put_in_place(partial, target, retired)
        except BaseException:
            remove_tree(partial)
            raise


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)


def sync_tree(path: Path) -> None:
    """Have the operating system put every file of a folder on the disk."""
    for file in sorted(path.rglob("*")):
        _sync(file)
    _sync(path)


@contextmanager
def held(directory: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder for this process alone until the block ends, or for it and others that share it.

    A folder that may only be read can be shared; where it has no lock yet, without one.

    Raises:
        InputError: When another process holds it otherwise.
        StorageError: When the folder cannot be written, and is not to be shared.
    """
    with storage_errors(directory):
        lock = _open_lock(directory, shared=shared)
    with lock or nullcontext():
        if lock is not None:
            _lock(lock, directory, shared=shared)
        yield


def _open_lock(directory: Path, *, shared: bool) -> IO[str] | None:
    """Return a folder's lock, or None where it has none and can be given none, and is to be shared."""
    path = directory / ".lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return path.open("a+")  # some file systems share a lock only with who may read
    except FileNotFoundError as error:  # whatever stands above it: such as in /proc
        advice = "choose a folder that can be written"
        raise StorageError("no folder can be made here", where=directory, found=error.strerror, advice=advice) from error
    except OSError as error:
        if not shared or error.errno not in _UNWRITABLE or not directory.is_dir():
            raise
    return path.open() if path.exists() else None


def _lock(file: IO[str], directory: Path, *, shared: bool) -> None:
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            "another treering process is at work on this run", where=directory, advice="wait for it, or stop it"
        ) from error
    except OSError as error:
        raise StorageError(
            "this file system has no locks", where=directory, found=error, advice="choose a folder of another file system"
        ) from error


def _put_in_place(partial: Path, target: Path, retired: Path) -> None:
    if target.exists():
        target.rename(retired)  # a folder cannot be renamed over one that holds files
    partial.rename(target)
    _sync(target.parent)
    remove_tree(retired)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
