"""A folder of the run's own in which verification makes things again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from treering.config.run_directory import RunDirectory
from treering.provenance.files import held, remove_tree, storage_errors

_NAME = ".verification.partial"


@contextmanager
def scratch(run: RunDirectory) -> Iterator[Path]:
    """Give an empty folder on the run's own disk, and remove it at the end; one that a kill left is removed first.

    Raises:
        InputError: When another process is at work on the run.
        StorageError: When the run's folder cannot be written.
    """
    folder = run.path / _NAME
    with held(run.path):
        remove_tree(folder)
        try:
            with storage_errors(folder):
                folder.mkdir()
            yield folder
        finally:
            remove_tree(folder)
