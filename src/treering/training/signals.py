"""Requests to stop: heard at once, heeded between two updates."""

import signal
import threading
import time
from types import FrameType
from typing import Any

_HEARD = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While open, the first SIGTERM or SIGINT only says so; a later one ends the process as it would have before.

    One that comes within `echo_seconds` is the first again: launchers send a process the signal they sent its group.
    In a thread other than the main one nothing is heard: Python delivers signals to the main thread alone.
    """

    def __init__(self, echo_seconds: float = 1.0) -> None:
        self.received = False
        self._echo_seconds, self._heard = echo_seconds, 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in _HEARD if not _is_ignored(number)}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        now = time.monotonic()
        if not self.received:
            self.received, self._heard = True, now
        elif now - self._heard >= self._echo_seconds:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN
