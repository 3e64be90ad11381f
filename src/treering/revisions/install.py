"""Putting a release into Hugging Face's local cache, so that its card's code runs without a network."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.errors import InputError
from treering.provenance.canonical import canonical_json
from treering.provenance.files import held, storage_errors, sync_tree, write_atomically
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.branches import MAIN, branches_of

_MARKER = ".treering"
# What the Hub keeps as large files is addressed by SHA-256, the rest by git's SHA-1, which is only a name here.
_LARGE_SUFFIXES = (".safetensors", ".bin")


@dataclass(frozen=True)
class Installed:
    """Where a release was put: the cache's folder of the repository, and its branches."""

    folder: Path
    branches: tuple[str, ...]


def install(run: RunDirectory, repository: str, cache: Path, progress: Progress = SILENCE) -> Installed:
    """Put every revision of a finished run, and `main` with the card, into a local cache; safe to repeat.

    Args:
        repository: `ORGANISATION/NAME`.
        cache: The cache's folder, the one with `models--…` folders in it.

    Raises:
        InputError: When the run has no revisions or no card yet, or the cache has a downloaded repository of this name.
        IntegrityError: When they are not what their manifests say.
        StorageError: When the cache cannot be written.
    """
    run.reads("revisions", "card")
    branches = branches_of(run)
    folder = cache / ("models--" + repository.replace("/", "--"))
    _refuse_foreign(folder)
    with held(folder), storage_errors(folder), progress.task("install", len(branches), "branches") as task:
        write_atomically(folder / _MARKER, run_digest(run.recipe).encode())
        for name, files in branches.items():
            _install_branch(folder, name, files)
            task.advance()
        _remove_stale_branches(folder, set(branches))
    return Installed(folder, (MAIN, *(name for name in branches if name != MAIN)))


def _refuse_foreign(folder: Path) -> None:
    """Do nothing where the cache has no such repository, or one that treering put there.

    Raises:
        InputError: When it was downloaded: a recipe may not put other weights in its place.
    """
    if folder.exists() and not (folder / _MARKER).exists():
        raise InputError(
            "the cache has a repository of this name that treering did not put there",
            where=folder,
            advice="give the card another organisation or model_name, or another --cache",
        )


def _remove_stale_branches(folder: Path, names: set[str]) -> None:
    for branch in sorted((folder / "refs").iterdir()):
        if branch.name not in names:
            branch.unlink()


def _install_branch(folder: Path, branch: str, files: dict[str, Path]) -> None:
    blobs = {name: _blob_name(path) for name, path in files.items()}
    commit = hashlib.sha1(canonical_json(sorted(blobs.items())), usedforsecurity=False).hexdigest()
    snapshot = folder / "snapshots" / commit
    for kept in (snapshot, folder / "blobs"):
        kept.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        _copy_blob(path, folder / "blobs" / blobs[name])
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(folder / "blobs" / blobs[name], link.parent))
    sync_tree(snapshot)
    # Without a newline: huggingface_hub takes the whole content for the commit.
    write_atomically(folder / "refs" / branch, commit.encode())


def _copy_blob(source: Path, blob: Path) -> None:
    if blob.exists() and blob.stat().st_size == source.stat().st_size and _blob_name(blob, like=source) == blob.name:
        return
    partial = blob.with_name(f".{blob.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(blob)


def _blob_name(path: Path, like: Path | None = None) -> str:
    """Return the name huggingface_hub gives a file's content, by the kind of file that `like` is."""
    if (like or path).suffix in _LARGE_SUFFIXES:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
