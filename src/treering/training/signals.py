"""Requests to stop: heard at once, heeded between two updates."""

import signal
import threading
from types import FrameType
from typing import Any

_HEARD = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While open, the first SIGTERM or SIGINT only says so; a second one ends the process as it would have before.

    In a thread other than the main one nothing is heard: Python delivers signals to the main thread alone.
    """

    def __init__(self) -> None:
        self.received = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in _HEARD if not _is_ignored(number)}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.received = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN
