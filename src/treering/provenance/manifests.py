"""Manifests: every file of a folder with its size and digest, written last; and whether they still hold."""

import time
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from treering.errors import FormatError, IntegrityError, ManifestError
from treering.provenance.canonical import read_record, write_record
from treering.provenance.digests import digest_file, digest_value

MANIFEST = "manifest.json"
_FORMAT = ("manifest", 1)
_SHOWN_PROBLEMS = 10
_SETTLED_NANOSECONDS = 2_000_000_000  # a file system's clock ticks coarsely: two writes within a tick bear one time

_Stamp = tuple[int, int, int]
_verified: dict[tuple[str, str], tuple[_Stamp, ...]] = {}


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file of a folder: its path inside the folder, its size in bytes and its digest."""

    path: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """What a stage wrote, and from what.

    `stage_digest` is that of the stage's inputs (its recipe section and the digests in `reads`);
    `digest` is that of its outputs.
    """

    stage: str
    stage_digest: str
    reads: Mapping[str, str]
    files: tuple[FileEntry, ...]

    @property
    def digest(self) -> str:
        """The digest of the folder's content: paths, sizes and digests of all its files."""
        return digest_value([[entry.path, entry.size_bytes, entry.digest] for entry in self.files])

    @property
    def size_bytes(self) -> int:
        """The size of all listed files together."""
        return sum(entry.size_bytes for entry in self.files)


def list_files(directory: Path) -> list[str]:
    """Return the paths of all files in a folder, relative, sorted, without its own manifest and without partial files."""
    paths = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.as_posix() != MANIFEST and not _unfinished(path))


def write_manifest(directory: Path, stage: str, stage_digest: str, reads: Mapping[str, str]) -> Manifest:
    """Digest every file of a finished folder and write its manifest, last.

    Raises:
        StorageError: When it cannot be written.
    """
    files = tuple(
        FileEntry(path, (directory / path).stat().st_size, digest_file(directory / path)) for path in list_files(directory)
    )
    body = {
        "stage": stage,
        "stage_digest": stage_digest,
        "reads": dict(reads),
        "files": [{"path": entry.path, "size_bytes": entry.size_bytes, "digest": entry.digest} for entry in files],
    }
    write_record(directory / MANIFEST, *_FORMAT, body)
    return Manifest(stage, stage_digest, dict(reads), files)


def read_manifest(directory: Path) -> Manifest:
    """Read a folder's manifest without checking its files.

    Raises:
        FormatError: When it is missing or cannot be read.
    """
    path = directory / MANIFEST
    body = read_record(path, *_FORMAT)
    try:
        files = tuple(FileEntry(str(f["path"]), _size(f["size_bytes"]), str(f["digest"])) for f in body["files"])
        manifest = Manifest(str(body["stage"]), str(body["stage_digest"]), dict(body["reads"]), files)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("this manifest lacks a field or has one of a wrong type", where=path, found=repr(error)) from error
    paths = [entry.path for entry in files]
    if paths != sorted(set(paths)):
        raise FormatError("this manifest lists files twice or out of order", where=path)
    outside = [entry.path for entry in files if Path(entry.path).is_absolute() or ".." in Path(entry.path).parts]
    if outside:
        raise FormatError("this manifest names files outside its folder", where=path, found=outside)
    return manifest


def _size(value: object) -> int:
    """Return a size in bytes.

    Raises:
        ValueError: When it is none.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def verify_manifest(directory: Path, left_out: Set[str] = frozenset()) -> Manifest:
    """Read a folder's manifest and compare every file with it; within one process, unchanged files are read once.

    Args:
        left_out: Paths of listed files that need not be there.

    Raises:
        FormatError: When the manifest is missing or cannot be read.
        ManifestError: When a file is missing, changed, or not listed.
    """
    manifest = read_manifest(directory)
    memo = (str(directory.resolve()), manifest.digest)
    stamps = _stamps(directory, manifest.files)  # before the reading, so that a change during it is seen the next time
    if stamps is not None and _verified.get(memo) == stamps:
        return manifest
    problems = list(_differences(directory, manifest, left_out))
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        shown = "; ".join(problems[:_SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        raise ManifestError(
            "the files are not those of the manifest",
            where=directory,
            expected=f"the {len(manifest.files)} files listed in {MANIFEST}",
            found=shown,
            advice=f"restore them, or delete {directory.name}/ and everything made from it, and run the same command again",
        )
    if stamps is not None:
        _verified[memo] = stamps
    return manifest


def find_stage(directory: Path, stage_digest: str, *, replaceable: bool = False) -> Manifest | None:
    """Return the verified manifest of a stage made from the same inputs, or None where the stage is to be done.

    Args:
        replaceable: Whether a stage made from other inputs may be done again in place (it is derived and cheap).

    Raises:
        ManifestError: When files differ from the manifest.
        IntegrityError: When the stage was made from other inputs and may not be replaced.
    """
    if not (directory / MANIFEST).exists():
        return None
    manifest = read_manifest(directory)
    if replaceable and manifest.stage_digest != stage_digest:
        return None
    refuse_other_inputs(directory, manifest, stage_digest)
    return verify_manifest(directory)


def refuse_other_inputs(directory: Path, manifest: Manifest, stage_digest: str) -> None:
    """Do nothing where a manifest's inputs have the digest they should have.

    Raises:
        IntegrityError: When they have another.
    """
    if manifest.stage_digest == stage_digest:
        return
    raise IntegrityError(
        "this stage was made from other inputs",
        where=directory,
        expected=f"inputs with digest {stage_digest}",
        found=manifest.stage_digest,
        advice=f"restore what changed, or delete {directory.name}/ and everything made from it to make them anew",
    )


def _unfinished(path: Path) -> bool:
    return any(part.startswith(".") and part.endswith((".partial", ".retired")) for part in path.parts)


def _differences(directory: Path, manifest: Manifest, left_out: Set[str]) -> Iterable[str]:
    present = set(list_files(directory))
    for entry in manifest.files:
        if entry.path not in present:
            yield from () if entry.path in left_out else (f"{entry.path} is missing",)
        elif (size := (directory / entry.path).stat().st_size) != entry.size_bytes:
            yield f"{entry.path} has {size} bytes instead of {entry.size_bytes}"
        elif digest_file(directory / entry.path) != entry.digest:
            yield f"{entry.path} has changed"
    for path in sorted(present - {entry.path for entry in manifest.files}):
        yield f"{path} is not listed"


def _stamps(directory: Path, files: Iterable[FileEntry]) -> tuple[_Stamp, ...] | None:
    """Return what changes whenever a file does; None where a file is absent, or too young for its time to tell."""
    listed = [entry.path for entry in files]
    if list_files(directory) != sorted(listed):
        return None
    stats = [(directory / path).stat() for path in listed]
    if any(stat.st_ctime_ns > time.time_ns() - _SETTLED_NANOSECONDS for stat in stats):
        return None
    return tuple((stat.st_size, stat.st_ctime_ns, stat.st_ino) for stat in stats)
