"""A thread beside training, for what is written while the next updates are computed."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Background:
    """One thread that does what it is given, one thing after the other; after the first failure it does nothing more.

    A failure is raised where the next thing is given, or waited for, or at the end of the block.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "treering background")
        self._given: deque[Future[None]] = deque()
        self._whole = True

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait until all is done; where the block ends with an error of its own, that one is raised."""
        self._executor.shutdown()
        if kind is None:
            self.wait()

    def do(self, act: Callable[[], None]) -> None:
        """Have something done after all that was given before.

        Raises:
            Exception: Whatever an earlier one raised.
        """
        while self._given and self._given[0].done():
            self._given.popleft().result()
        self._given.append(self._executor.submit(self._do, act))

    def wait(self) -> None:
        """Return when all that was given is done.

        Raises:
            Exception: Whatever one of them raised.
        """
        while self._given:
            self._given.popleft().result()

    def _do(self, act: Callable[[], None]) -> None:
        if self._whole:
            self._whole = False  # and so it stays if the act fails
            act()
            self._whole = True
