"""A folder of the run's own in which verification makes things again."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from treering.config.run_directory import RunDirectory
from treering.errors import InputError
from treering.provenance.files import held, remove_tree, storage_errors

_PREFIX, _SUFFIX = ".verification.", ".partial"
_YOUNG_SECONDS = 60.0  # a new one is not held yet


@contextmanager
def scratch(run: RunDirectory) -> Iterator[Path]:
    """Give an empty folder on the run's own disk, and remove it at the end; those that kills have left are removed first.

    Several processes may verify or serve a run at once; none while one is at work on it.

    Raises:
        InputError: When another process is at work on the run.
        StorageError: When the run's folder cannot be written.
    """
    with held(run.path, shared=True):
        _remove_left(run)
        with storage_errors(run.path):
            own = Path(tempfile.mkdtemp(_SUFFIX, _PREFIX, run.path))
        try:
            with held(own), storage_errors(own):
                folder = own / "again"
                folder.mkdir()
                yield folder
        finally:
            remove_tree(own)


def _remove_left(run: RunDirectory) -> None:
    """Remove the folders of processes that were killed: those that nobody holds."""
    for path in run.path.glob(f"{_PREFIX}*{_SUFFIX}"):
        if path.is_dir() and time.time() - path.stat().st_mtime > _YOUNG_SECONDS:
            with suppress(InputError), held(path):
                remove_tree(path)
