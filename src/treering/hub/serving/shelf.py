"""What is served, as the reading routes see it, wherever its files lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from treering.hub.branches import place_of
from treering.hub.serving.objects import Commit, File
from treering.hub.serving.refusals import no_revision


@dataclass(frozen=True)
class Refs:
    """The commits that a repository's branches and tags point to."""

    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class Repository(Protocol):
    """A repository to be read: what it shows at any moment was whole at that moment."""

    @property
    def kind(self) -> str:
        """`model` or `dataset`."""
        ...

    @property
    def name(self) -> str:
        """Organisation and name."""
        ...

    @property
    def refs(self) -> Refs:
        """Its branches and tags now."""
        ...

    def commit(self, commit_id: str) -> Commit | None:
        """Return the commit of this id, or None where it has none."""
        ...

    def content(self, file: File) -> Path:
        """Return where the content of one of its files lies.

        Raises:
            Refusal: When the content is not what it was.
        """
        ...


class Shelf(Protocol):
    """Repositories by kind and name."""

    @property
    def repositories(self) -> Mapping[tuple[str, str], Repository]:
        """Those that are there now."""
        ...


def commit_at(repository: Repository, revision: str) -> Commit:
    """Return the commit that a branch, a tag or a commit's id stands for.

    Raises:
        Refusal: When there is no such revision.
    """
    refs = repository.refs
    found = repository.commit(refs.branches.get(revision) or refs.tags.get(revision) or revision)
    if found is None:
        raise no_revision(revision)
    return found


def in_training(branch: str) -> tuple[bool, int, int, str]:
    """Return what branches are sorted by: those that are no step's first, then in the order of the training."""
    place = place_of(branch)
    return (False, 0, 0, branch) if place is None else (True, place.stage, place.step, branch)
