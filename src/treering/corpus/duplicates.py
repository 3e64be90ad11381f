"""Exact duplicates: a table of digests on disk, so that memory does not grow with the corpus."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from treering.errors import StorageError

_CACHE_KIBIBYTES = 32 << 10
_SETTINGS = (
    f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}",
    "PRAGMA journal_mode = OFF",  # the table is thrown away after any failure: nothing is to be rolled back
    "PRAGMA synchronous = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    "CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID",
    "BEGIN",
)


class SeenDigests:
    """The set of digests met so far, in a file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._cursor = connection.cursor()

    def add(self, digest: str) -> bool:
        """Remember a digest and return whether it is new.

        Raises:
            StorageError: When the table cannot grow, because the disk is full or may not be written.
        """
        try:
            self._cursor.execute("INSERT OR IGNORE INTO seen VALUES (?)", (bytes.fromhex(digest[-64:]),))
        except sqlite3.OperationalError as error:
            raise _storage_error(self._path, error) from error
        return self._cursor.rowcount == 1


@contextmanager
def seen_digests(path: Path) -> Iterator[SeenDigests]:
    """Give an empty set of digests in a new file, and remove the file when the block ends.

    Raises:
        StorageError: When the file cannot be written.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        for setting in _SETTINGS:
            connection.execute(setting)
    except sqlite3.OperationalError as error:
        raise _storage_error(path, error) from error
    try:
        yield SeenDigests(path, connection)
    finally:
        connection.close()
        path.unlink(missing_ok=True)


def _storage_error(path: Path, error: sqlite3.OperationalError) -> StorageError:
    return StorageError(
        "the table of digests cannot be written",
        where=path,
        found=error,
        advice="free space, or mend the folder's permissions, then run the same command again",
    )
