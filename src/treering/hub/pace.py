"""How often a Hub lets itself be asked, and how long it says to wait."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_HOUR_SECONDS = 3600.0
_RESET = re.compile(r"\bt=(\d{1,9})(?![\w.])", re.ASCII)
_DIGITS = re.compile(r"(\d{1,9})", re.ASCII)


@dataclass
class Pace:
    """How often a Hub lets a thing be done: never more than `most` times in any `window_seconds`.

    `most` None is no limit. `sleep` and `clock` are the machine's, but for tests.
    """

    most: int | None
    window_seconds: float = _HOUR_SECONDS
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _times: deque[float] = field(default_factory=deque[float], init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def take(self) -> float:
        """Take the next place and return 0, or return the seconds until there may be one."""
        if self.most is None:
            return 0.0
        with self._lock:
            now = self.clock()
            while self._times and self._times[0] <= now - self.window_seconds:
                self._times.popleft()
            if len(self._times) >= self.most:
                return self._times[0] + self.window_seconds - now
            self._times.append(now)
            return 0.0

    def expected_seconds(self, times: int) -> float:
        """Return how long so many wait for each other, if the things themselves took no time."""
        return 0.0 if self.most is None else max(0, times - 1) // self.most * self.window_seconds


def seconds_asked(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the Hub asks to wait; None where it asks for nothing that can be read."""
    told, reset = _DIGITS.fullmatch(headers.get("Retry-After", "").strip()), _RESET.search(headers.get("RateLimit", ""))
    found = told or reset
    return None if found is None else float(found[1])
