"""Listing what a release has, in a repository or a folder."""

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from treering.config.run_directory import RunDirectory, find_run, holds_run
from treering.config.schema import Recipe
from treering.errors import InputError
from treering.hub.asking import Asking, odd_answer
from treering.hub.branches import Place, place_of
from treering.hub.listed import Branch, FileFact, Listing
from treering.hub.strangers import named
from treering.provenance.digests import digest_file
from treering.provenance.progress import Progress, Task
from treering.revisions.branches import MAIN, branches_of

_Thing = TypeVar("_Thing")

WORKERS = 8
_MOST_FILES = 20_000  # of a branch
_MOST_BYTES = 1 << 53  # of a file
_SERIES_END = re.compile(r"(?:step_?|ckpt_|iter_)(?=\d)", re.ASCII)
_OF_THE_HUB = re.compile(r"(?:refs/)?(?:convert|pr)/")  # names that a Hub gives itself
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
BY_PATTERN = r"say how steps are named, such as --pattern 'epoch-\d+-step-(?P<step>\d+)'"


def list_repository(asking: Asking, pattern: str | None, progress: Progress) -> Listing:
    """Return what a repository has, each branch at the commit that it points to now.

    Raises:
        InputError: When there is no such repository, it may not be read or has no branch to look at, or the pattern is wrong
            or fits none.
        EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
    """
    repository = asking.repository
    commits, tags = repository.references()
    wanted, unread = _told_apart(commits, pattern, repository.name)
    if not wanted:
        raise InputError(
            f"no branch is named for a step, and none `{MAIN}`",
            where=repository.name,
            found=named(unread) or "no branch",
            advice=BY_PATTERN,
        )

    def look(name: str) -> Branch:
        entries = asking.list_files(commits[name])
        return _branch(name, pattern, commits[name], (fact for entry in entries if (fact := _fact(entry, repository.name))))

    with progress.task("list branches", len(wanted), "branches") as task, ThreadPoolExecutor(WORKERS) as pool:
        asking.task = task
        found = [_told(task, branch) for branch in pool.map(look, wanted)]

    def read(branch: Branch, path: str, start: int, stop: int) -> bytes:
        return asking.read(branch.commit or branch.name, path, start, stop)

    return replace(_listing(repository.name, found, tuple(commits), read), asking=asking, unread=unread, tags=tags)


def list_folder(folder: Path, pattern: str | None, progress: Progress) -> Listing:
    """Return what a folder of revisions has, or a run, after digesting every file; or a model by itself, as `main`.

    Raises:
        InputError: When there is no revision in it, the run's recipe is wrong, or the pattern is wrong, fits none or is for a
            run.
        FormatError: When a record or a manifest of a finished run cannot be read.
    """
    run, unread = _run_in(folder, pattern), tuple[str, ...]()
    if run is None:
        wanted, unread = _told_apart(_folders_in(folder, pattern), pattern, folder)
        places = {name: _files_of(folder / name) for name in wanted} or {MAIN: _files_of(folder)}
    else:
        places = _places_of_run(run)
    if not any(places.values()):
        raise InputError("this folder has no revisions", where=folder, found=named(unread) or None, advice=BY_PATTERN)
    found = []
    with progress.task("digest files", sum(map(len, places.values())), "files") as task:
        for name, files in places.items():
            found.append(_branch(name, pattern, None, (_told(task, _digested(path, file)) for path, file in files.items())))

    def read(branch: Branch, path: str, start: int, stop: int) -> bytes:
        with places[branch.name][path].open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    name = "" if run is None else _repository_of(run.recipe)
    return replace(_listing(name, found, tuple(places), read), folder=folder, unread=unread)


def _told_apart(names: Iterable[str], pattern: str | None, where: object) -> tuple[list[str], tuple[str, ...]]:
    """Return the names of branches to look at, and those that say no step; names that a Hub gives itself are neither.

    Raises:
        InputError: When the pattern is wrong, or fits none of them.
    """
    known = [name for name in names if not _OF_THE_HUB.match(name)]
    of_steps = {name for name in known if place_of(name, pattern) is not None}
    wanted = [name for name in known if name in of_steps or name == MAIN]
    unread = tuple(name for name in known if name not in of_steps and name != MAIN)
    if pattern is not None and not of_steps:
        advice = r"a pattern has to fit the whole of a name, with the digits as (?P<step>\d+)"
        raise InputError(
            "no branch is named as the pattern says", where=where, expected=pattern, found=named(known) or "none", advice=advice
        )
    return wanted, unread


def _listing(name: str, found: Iterable[Branch], names: tuple[str, ...], read: Callable[..., bytes]) -> Listing:
    by_name = {branch.name: branch for branch in found}
    main = by_name.pop(MAIN, None) if MAIN in by_name and by_name[MAIN].place is None else None
    ordered = sorted(by_name.values(), key=lambda branch: ((branch.place or Place(0, 0, None))[:2], branch.name))
    return Listing(name, tuple(ordered), main, names, read)


def _branch(name: str, pattern: str | None, commit: str | None, facts: Iterable[FileFact]) -> Branch:
    place = place_of(name, pattern)
    return Branch(name, place, _series_of(name, pattern) if place else "", commit, {fact.path: fact for fact in facts})


def _series_of(name: str, pattern: str | None) -> str:
    """Return the part of a branch's name before its step: that of branches of one training is the same."""
    if pattern is not None and (match := re.compile(pattern, re.ASCII).fullmatch(name)):
        return name[: match.start("step")]
    ends = [match.end() for match in _SERIES_END.finditer(name)]
    return name[: ends[-1]] if ends else ""


def _fact(entry: dict[str, Any], where: str) -> FileFact | None:
    """Return what a Hub says of a file, or None of a folder.

    Raises:
        EnvironmentMismatch: When it is not what a Hub says of one.
    """
    if entry.get("type") != "file":
        return None
    path, size, large = entry.get("path"), entry.get("size"), entry.get("lfs")
    name = large.get("oid", large.get("sha256")) if isinstance(large, dict) else entry.get("oid")
    letters = 64 if isinstance(large, dict) else 40
    if isinstance(large, dict):
        size = large.get("size", size)
    known = isinstance(name, str) and re.fullmatch(rf"[0-9a-f]{{{letters}}}", name)
    if not (isinstance(path, str) and type(size) is int and 0 <= size < _MOST_BYTES and known):
        raise odd_answer(where, entry)
    return FileFact(path, size, f"sha256:{name}" if letters == 64 else f"git:{name}")


def _run_in(folder: Path, pattern: str | None) -> RunDirectory | None:
    """Return the run that a folder is, or None where it is none.

    Raises:
        InputError: When its recipe is wrong, or there is a pattern besides.
    """
    if not holds_run(folder):
        return None
    if pattern is not None:
        advice = "leave --pattern out: a run's branches are named by treering"
        raise InputError("a run needs no pattern", where=folder, found=f"--pattern {pattern}", advice=advice)
    return find_run(folder, folder.parent)


def _repository_of(recipe: Recipe) -> str:
    """Return the name under which a Hub has, or will have, a run's release."""
    name = recipe.card.model_name or recipe.name
    return name if recipe.card.organisation is None else f"{recipe.card.organisation}/{name}"


def _places_of_run(run: RunDirectory) -> dict[str, dict[str, Path]]:
    """Return the files of each branch of a run's release; without a card there is no `main` yet.

    Raises:
        InputError: When it has no revisions yet.
        FormatError: When a record or a manifest of a finished run cannot be read.
    """
    revisions = run.path / "revisions"
    if not revisions.is_dir():
        raise InputError("this run has no revisions yet", where=run.path, advice="treering export, first")
    if (run.path / "card" / "claims.json").is_file():
        return branches_of(run)
    wanted, _ = _told_apart(_folders_in(revisions, None), None, revisions)
    return {name: _files_of(revisions / name) for name in wanted}


def _folders_in(folder: Path, pattern: str | None) -> list[str]:
    """Return the names of folders in a folder that may be branches: those of steps and `main`, and others with weights."""
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    return [path.name for path in folders if path.name == MAIN or place_of(path.name, pattern) or _has_weights(path)]


def _has_weights(folder: Path) -> bool:
    return any(path.suffix in _WEIGHTS for path in folder.iterdir())


def _files_of(folder: Path) -> dict[str, Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())[:_MOST_FILES]
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _digested(path: str, file: Path) -> FileFact:
    return FileFact(path, file.stat().st_size, digest_file(file))


def _told(task: Task, thing: _Thing) -> _Thing:
    task.advance()
    return thing
