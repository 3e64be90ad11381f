"""What a release has: its branches in the order of the training, each with its files and their digests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from treering.hub.asking import Asking
from treering.hub.branches import Place
from treering.provenance.progress import Task

_UPDATES_OF_A_CHECKPOINT = 1000  # or more, where names count checkpoints


@dataclass(frozen=True)
class FileFact:
    """A file of a branch: its path there, its size, and a digest of its content, `sha256:…` or git's name for it."""

    path: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, eq=False)
class Branch:
    """A branch and its files; `place` is None where its name says no step, `series` what tells trainings side by side apart."""

    name: str
    place: Place | None
    series: str
    commit: str | None
    files: Mapping[str, FileFact]

    @property
    def step(self) -> int:
        """The step that its name says; -1 where it says none."""
        return -1 if self.place is None else self.place.step

    @property
    def counts_updates(self) -> bool:
        """Whether its step is one of updates; LLM360's names count checkpoints instead."""
        return not self.series.endswith("ckpt_")

    @property
    def updates(self) -> int:
        """How many updates led to it, at least roughly."""
        return self.step if self.counts_updates else self.step * _UPDATES_OF_A_CHECKPOINT


@dataclass(frozen=True)
class Listing:
    """A release: branches of steps in the order of the training, `main` if there is one, all names, and the way to files.

    Its name is its repository's; of a folder the one that a run's recipe says, and empty where none does. `unread` are the
    branches that are named for no step.
    """

    name: str
    branches: tuple[Branch, ...]
    main: Branch | None
    names: tuple[str, ...]
    read: Callable[[Branch, str, int, int], bytes]
    asking: Asking | None = None
    folder: Path | None = None
    unread: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Where it lies: its folder, or the repository's name."""
        return self.name if self.folder is None else str(self.folder)

    def watch(self, task: Task) -> None:
        """Have whoever watches a task be told when the Hub makes it wait."""
        if self.asking is not None:
            self.asking.task = task

    @property
    def everything(self) -> tuple[Branch, ...]:
        """All branches that are looked at: those of steps, then `main`."""
        return self.branches if self.main is None else (*self.branches, self.main)

    @property
    def series(self) -> list[tuple[Branch, ...]]:
        """Branches of steps, those of each training by themselves."""
        found: dict[tuple[int, str], list[Branch]] = {}
        for branch in self.branches:
            found.setdefault((branch.place.stage if branch.place else 0, branch.series), []).append(branch)
        return [tuple(branches) for branches in found.values()]


def plain(path: str) -> bool:
    """Return whether a file's name is one that leads nowhere else and may be shown."""
    return 0 < len(path) <= 1000 and path.isprintable() and not path.startswith("/") and ".." not in path.split("/")


def branches_text(count: int) -> str:
    """Return a number of branches in words."""
    return f"{count:,} {'branch' if count == 1 else 'branches'}"
