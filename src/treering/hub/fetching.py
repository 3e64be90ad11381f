"""Fetching: a run put together again from where it is published, every file compared with the release's own manifests."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from treering.config.digests import resolved, run_digest
from treering.config.fetched import write_fetched
from treering.config.reading import read_recipe
from treering.config.run_directory import RECIPE, RunDirectory
from treering.config.yaml_text import write_yaml
from treering.errors import FormatError, InputError, IntegrityError, StorageError
from treering.hub.plan import MODEL, Place
from treering.hub.published import Published
from treering.provenance.digests import digest_file
from treering.provenance.files import held, remove_tree, storage_errors, write_atomically
from treering.provenance.manifests import MANIFEST, FileEntry, read_manifest
from treering.provenance.progress import SILENCE, Progress, Task
from treering.revisions.branches import MAIN

_ARRIVING = ".fetching"


@dataclass(frozen=True)
class Wanted:
    """What of a release is fetched beside its records: the data half, and the files of which revisions and checkpoints."""

    data: bool
    revisions: frozenset[int]
    checkpoints: frozenset[int]

    def includes(self, stage: str, entry: FileEntry, place: Place) -> bool:
        """Return whether a file is wanted, from its place on the Hub."""
        if (place.repository, place.branch) == (MODEL, MAIN):
            return True
        steps = {"revisions": self.revisions, "checkpoints": self.checkpoints}.get(stage)
        return self.data if steps is None else Path(entry.path).parts[0] in {f"step{step}" for step in steps}


@dataclass(frozen=True)
class Piece:
    """A file of a stage, and where it lies on the Hub."""

    stage: str
    entry: FileEntry
    place: Place


@dataclass(frozen=True)
class FetchPlan:
    """What is fetched, and the files of each stage that are left out."""

    pieces: tuple[Piece, ...]
    left_out: Mapping[str, tuple[FileEntry, ...]]

    @property
    def size_bytes(self) -> int:
        """The size of all that is fetched."""
        return sum(piece.entry.size_bytes for piece in self.pieces)


def plan_fetch(published: Published, wanted: Wanted) -> FetchPlan:
    """Return what is fetched of a release and what is left out, because it is not wanted or was not published.

    Raises:
        IntegrityError: When the Hub lists a file of another size or digest than the release's manifests.
    """
    pieces, left_out = list[Piece](), dict[str, list[FileEntry]]()
    for stage, manifest in published.manifests.items():
        for entry in manifest.files:
            place = published.find(stage, entry.path)
            if place is not None and wanted.includes(stage, entry, place):
                _refuse_other_listed(published, Piece(stage, entry, place))
                pieces.append(Piece(stage, entry, place))
            else:
                left_out.setdefault(stage, []).append(entry)
    return FetchPlan(tuple(pieces), {stage: tuple(entries) for stage, entries in left_out.items()})


def fetch(published: Published, plan: FetchPlan, folder: Path, progress: Progress = SILENCE) -> RunDirectory:
    """Put a release's files into a run's folder, each compared with its manifest, and return the run; safe to repeat.

    What is there and right is left as it is, so that more can be fetched later, and an interrupted fetch goes on.

    Raises:
        InputError: When the folder holds something else, or another process is at work on it.
        IntegrityError: When what the Hub serves, or what is there, is not what the release's manifests say.
        EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
        StorageError: When the folder cannot be written.
    """
    _refuse_foreign(folder, published)
    with held(folder), storage_errors(folder):
        run = RunDirectory(folder, published.recipe)
        _refuse_links(run, plan.pieces)
        missing = _missing(run, plan.pieces, progress)
        _refuse_too_little_room(folder, missing)
        for path in (folder / _ARRIVING).rglob("*.incomplete"):
            path.unlink()  # the client begins them anew
        _write_records(run, published)
        with progress.task(f"fetch {published.name}", sum(piece.entry.size_bytes for piece in missing), "bytes") as task:
            for pieces in _by_branch(missing):
                _fetch_branch(run, published, pieces, task)
        _note_left_out(run, published)
        remove_tree(folder / _ARRIVING)
    return run


def _refuse_foreign(folder: Path, published: Published) -> None:
    """Do nothing where a folder is new, empty, or of this release.

    Raises:
        InputError: When it is another run's, or no run's.
        IntegrityError: When a stage in it is another one than was published.
    """
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        return
    advice = "fetch into another folder: --to FOLDER"
    if not (folder / RECIPE).is_file():
        raise InputError("this folder holds something that is no run", where=folder, advice=advice)
    if run_digest(read_recipe(folder / RECIPE)) != run_digest(published.recipe):
        raise InputError("this folder holds another run", where=folder, advice=advice)
    for stage, manifest in published.manifests.items():
        here = folder / stage
        if (here / MANIFEST).exists() and (found := read_manifest(here).digest) != manifest.digest:
            raise IntegrityError(
                "here lies another one than was published", where=here, expected=manifest.digest, found=found, advice=advice
            )


def _refuse_other_listed(published: Published, piece: Piece) -> None:
    fact = published.fact(piece.place)
    if fact is None:
        return
    known = fact.digest if fact.digest.startswith("sha256:") else piece.entry.digest
    if (fact.size_bytes, known) != (piece.entry.size_bytes, piece.entry.digest):
        raise IntegrityError(
            "what the Hub lists is not the release's file",
            where=f"{published.name}{piece.place.repository}, {piece.place.branch}: {piece.place.path}",
            expected=f"{piece.entry.digest}, {piece.entry.size_bytes:,} bytes",
            found=f"{fact.digest}, {fact.size_bytes:,} bytes",
            advice="the release is not what it says: treering audit says more",
        )


def _refuse_links(run: RunDirectory, pieces: Iterable[Piece]) -> None:
    """Do nothing where what is written stays in the run's folder.

    Raises:
        InputError: When a place in it is a link to somewhere else.
    """
    places = {run.path / _ARRIVING, *(run.stage(piece.stage) / piece.entry.path for piece in pieces)}
    inside = {
        path for place in places for path in (place, *place.parents) if path.is_relative_to(run.path) and path != run.path
    }
    if links := sorted(path for path in inside if path.is_symlink()):
        raise InputError("this is a link, and nothing is fetched through one", where=links[0], advice="remove it")


def _missing(run: RunDirectory, pieces: Iterable[Piece], progress: Progress) -> list[Piece]:
    """Return what is not in the run yet, after comparing what is.

    Raises:
        IntegrityError: When another file is there.
    """
    places = [(piece, run.stage(piece.stage) / piece.entry.path) for piece in pieces]
    here = [(piece, path) for piece, path in places if path.exists()]
    with progress.task("compare what is here", sum(piece.entry.size_bytes for piece, _ in here), "bytes") as task:
        for piece, path in here:
            _refuse_other(path, piece, advice="delete it, and fetch again")
            task.advance(piece.entry.size_bytes)
    return [piece for piece, path in places if not path.exists()]


def _refuse_too_little_room(folder: Path, missing: Iterable[Piece]) -> None:
    needed, free = sum(piece.entry.size_bytes for piece in missing), shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            "there is not enough room", where=folder, expected=f"{needed:,} bytes", found=f"{free:,} free", advice="fetch less"
        )


def _write_records(run: RunDirectory, published: Published) -> None:
    """Write recipe and manifests, and what is not here yet: so what an interrupted fetch leaves is a run that says so."""
    if not (run.path / RECIPE).exists():
        write_atomically(run.path / RECIPE, write_yaml(resolved(run.recipe)).encode())
    _note_left_out(run, published)
    for stage in published.manifests:
        write_atomically(run.stage(stage) / MANIFEST, (published.records / stage / MANIFEST).read_bytes())


def _note_left_out(run: RunDirectory, published: Published) -> None:
    left_out = {
        stage: absent
        for stage, manifest in published.manifests.items()
        if (absent := [entry.path for entry in manifest.files if not (run.stage(stage) / entry.path).exists()])
    }
    commits = {
        repository.name: {branch.name: branch.commit for branch in published.listings[suffix].everything}
        for suffix, repository in published.repositories.items()
    }
    endpoint = published.repositories[MODEL].endpoint
    about = {"release": published.name, "endpoint": endpoint, "release_digest": published.digest, "commits": commits}
    write_fetched(run.path, left_out, about)


def _by_branch(pieces: Iterable[Piece]) -> Iterable[list[Piece]]:
    found: dict[tuple[str, str], list[Piece]] = {}
    for piece in pieces:
        found.setdefault((piece.place.repository, piece.place.branch), []).append(piece)
    return found.values()


def _fetch_branch(run: RunDirectory, published: Published, pieces: Sequence[Piece], task: Task) -> None:
    """Fetch files of one branch, and put each in its place once it is whole.

    Raises:
        IntegrityError: When one that came is not what its manifest says; it is not kept.
    """
    suffix, name, _ = pieces[0].place
    branch = published.branch(pieces[0].place)
    if branch is None or branch.commit is None:
        raise FormatError("this branch has no commit", where=f"{published.name}{suffix}, {name}")
    task.note(f"{published.name}{suffix} {name}")
    arriving = run.path / _ARRIVING / f"repository{suffix}" / name
    published.repositories[suffix].download_into(arriving, branch.commit, [piece.place.path for piece in pieces], task)
    for piece in pieces:
        came, place = arriving / piece.place.path, run.stage(piece.stage) / piece.entry.path
        if not came.is_file():
            raise FormatError(
                "this file is listed and cannot be had", where=f"{published.name}{suffix}, {name}, {piece.place.path}"
            )
        try:
            _refuse_other(came, piece, advice="run the same command again; if it comes so again, treering audit says more")
        except IntegrityError:
            came.unlink()
            raise
        place.parent.mkdir(parents=True, exist_ok=True)
        came.replace(place)


def _refuse_other(path: Path, piece: Piece, advice: str) -> None:
    """Do nothing where a file is what its manifest lists.

    Raises:
        IntegrityError: When it is another.
    """
    size_bytes = path.stat().st_size
    found = digest_file(path) if size_bytes == piece.entry.size_bytes else f"{size_bytes:,} bytes"
    if found != piece.entry.digest:
        place = f"{piece.place.branch}: {piece.place.path}"
        expected = f"{piece.entry.digest}, {piece.entry.size_bytes:,} bytes"
        raise IntegrityError(
            f"this is not the release's file ({place})", where=path, expected=expected, found=found, advice=advice
        )
