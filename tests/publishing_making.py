"""What tests of publishing share: files as they are planned, and repositories of a few bytes."""

from pathlib import Path

from treering.hub.plan import PlannedBranch, PlannedFile, PlannedRepository
from treering.provenance.digests import digest_file


def planned_file(path: Path) -> PlannedFile:
    """A file as it is now, to be published."""
    return PlannedFile(path, path.stat().st_size, digest_file(path))


def planned_folder(folder: Path, name: str) -> PlannedBranch:
    """A branch that is to have the files of a folder."""
    return PlannedBranch(name, {path.name: planned_file(path) for path in sorted(folder.iterdir())})


def small(folder: Path, **branches: dict[str, bytes]) -> PlannedRepository:
    """A repository of a few bytes."""
    for name, files in branches.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            (folder / name / path).write_bytes(content)
    return PlannedRepository("acme/small", "model", tuple(planned_folder(folder / name, name) for name in branches))
