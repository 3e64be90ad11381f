"""A release as its revisions in the order of the training, whether it lies on a Hub or in a folder."""

import functools
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from treering.config.run_directory import holds_run
from treering.errors import InputError
from treering.hub.branches import place_of
from treering.hub.client import Repository, open_repository
from treering.hub.loadable import CONFIG, SETTINGS_FILES, TOKENIZER_FILES, WEIGHT_FILES, refuse_code, refuse_no_weights
from treering.provenance.environment import hugging_face_cache
from treering.provenance.progress import SILENCE, Progress

MAIN = "main"
_SHOWN_STEPS = 24


@dataclass(frozen=True)
class ReleaseRevision:
    """One revision: a branch and the commit it points to, or a folder; step and tokens None where its name says none.

    A name may have slashes in it, and is no path.
    """

    name: str
    step: int | None
    commit: str | None
    stage: int = 0
    tokens: int | None = None


@dataclass(frozen=True)
class Release:
    """Revisions in the order of the training, and the way to each one's files."""

    name: str
    revisions: tuple[ReleaseRevision, ...]
    fetch: Callable[[ReleaseRevision, Progress], Path]

    def select(self, wanted: Literal["all", "last"] | Sequence[int]) -> tuple[ReleaseRevision, ...]:
        """Return all revisions, the last, or those of some steps; where several have one step, each of them.

        Raises:
            InputError: When there is no revision of one of the steps.
        """
        if wanted == "all":
            return self.revisions
        if wanted == "last":
            return self.revisions[-1:]
        steps = sorted({revision.step for revision in self.revisions if revision.step is not None})
        if unknown := sorted(set(wanted).difference(steps)):
            expected = _listed(steps) if steps else f"`all` or `last`, since only `{MAIN}` is there"
            raise InputError("there is no revision of this step", where=self.name, expected=expected, found=unknown[0])
        return tuple(revision for revision in self.revisions if revision.step in wanted)

    def folder_of(self, revision: ReleaseRevision, progress: Progress = SILENCE) -> Path:
        """Return a folder with a revision's files, after downloading those that are not on this machine yet.

        Raises:
            InputError: When it wants code of its own to be run, has no safetensors, lacks a file, or may not be read.
            EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
            StorageError: When the cache cannot be written.
        """
        return self.fetch(revision, progress)


def open_release(release: str, endpoint: str | None = None, pattern: str | None = None, cache: Path | None = None) -> Release:
    """Return the release in a folder, if there is such a folder, or else in a repository on the Hub.

    A folder may be a run, its `revisions/`, any other folder of folders named for steps, or one model. Where no branch or
    folder is named for a step, the one revision is `main`.

    Args:
        release: A folder, or ORG/NAME.
        endpoint: The Hub's address; by default, the one that Hugging Face's client is set to.
        pattern: A regular expression for names of steps, as for `place_of`.
        cache: Hugging Face's local cache; its own by default.

    Raises:
        InputError: When there is no such folder or repository, it may not be read or has no revisions, or the pattern is wrong.
        EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
    """
    if release and Path(release).is_dir():
        return _open_folder(Path(release), pattern)
    if release.startswith((".", "/", "~")) or release.count("/") != 1:
        raise InputError(
            "there is no such folder", where=release, advice="give a folder that exists, or a repository: ORG/NAME"
        )
    return _open_repository(open_repository(release, endpoint, cache or hugging_face_cache()), pattern)


def _open_folder(folder: Path, pattern: str | None) -> Release:
    inner = folder / "revisions" if holds_run(folder) else folder
    if not inner.is_dir():
        raise InputError("this run has no revisions yet", where=folder, advice=f"treering export {shlex.quote(str(folder))}")
    names = {path.name: None for path in inner.iterdir() if path.is_dir()}
    if revisions := _of_steps(names, pattern):
        return Release(str(folder), revisions, functools.partial(_look_up, inner))
    if not (inner / CONFIG).is_file():
        expected = f"folders named for steps, such as step0, or a model's {CONFIG}"
        raise InputError(
            "this folder has no revisions", where=inner, expected=expected, advice="--pattern says how steps are named"
        )
    return Release(str(folder), (ReleaseRevision(MAIN, None, None),), functools.partial(_look_up, inner))


def _open_repository(repository: Repository, pattern: str | None) -> Release:
    branches = repository.branches()
    revisions = _of_steps(branches, pattern)
    if not revisions and MAIN not in branches:
        raise InputError(f"no branch is named for a step, and none `{MAIN}`", where=repository.name)
    main = () if revisions else (ReleaseRevision(MAIN, None, branches[MAIN]),)
    return Release(repository.name, revisions or main, functools.partial(_download, repository))


def _of_steps(commits: dict[str, str] | dict[str, None], pattern: str | None) -> tuple[ReleaseRevision, ...]:
    """Return the revisions that are named for steps, in the order of the training."""
    placed = ((place, name) for name in commits if (place := place_of(name, pattern)) is not None)
    ordered = sorted(placed, key=lambda entry: (entry[0].stage, entry[0].step, entry[1]))
    return tuple(ReleaseRevision(name, place.step, commits[name], place.stage, place.tokens) for place, name in ordered)


def _look_up(folder: Path, revision: ReleaseRevision, progress: Progress) -> Path:  # noqa: ARG001 (nothing takes long)
    path = folder if revision.step is None else folder / revision.name
    refuse_code(path, str(path))
    refuse_no_weights(path, str(path))
    return path


def _download(repository: Repository, revision: ReleaseRevision, progress: Progress) -> Path:
    """Return the cache's folder of a revision; its settings are looked at before anything large is downloaded."""
    where = f"{repository.name}, {revision.name}"
    commit = revision.commit or revision.name
    with progress.task(f"download {revision.name}", None, "bytes") as task:
        refuse_code(repository.download(commit, SETTINGS_FILES, task), where)
        folder = repository.download(commit, (*TOKENIZER_FILES, *WEIGHT_FILES), task)
    refuse_no_weights(folder, where)
    return folder


def _listed(steps: Iterable[int]) -> str:
    names = [str(step) for step in steps]
    if len(names) <= _SHOWN_STEPS:
        return ", ".join(names)
    return f"{', '.join(names[: _SHOWN_STEPS - 1])}, … {names[-1]} ({len(names)} steps)"
