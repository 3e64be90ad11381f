"""How long steps tell what they have done, without knowing who watches."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One long step that is being watched."""

    def advance(self, amount: float = 1) -> None:
        """Say that so much more is done, in the unit of the task's total."""
        ...

    def note(self, text: str) -> None:
        """Say something about where the step stands, such as the latest loss."""
        ...


class Progress(Protocol):
    """Whoever watches: the terminal's bars, or nobody."""

    def task(self, description: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """Begin a step; `total` in `unit`, None where it is not known beforehand."""
        ...


class _SilentTask:
    def advance(self, amount: float = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Silence:
    """A Progress that shows nothing."""

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[Task]:  # noqa: ARG002
        """Begin a step that nobody watches."""
        yield _SilentTask()


SILENCE = Silence()
