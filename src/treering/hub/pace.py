"""How many commits an hour a Hub takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Pace:
    """How many commits an hour a Hub takes: beyond them is waited, without asking in vain.

    `commits_per_hour` None is no limit. `sleep` and `clock` are the machine's, but for tests.
    """

    commits_per_hour: int | None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    made: list[float] = field(default_factory=list)

    def seconds_to_commit(self) -> float:
        """Return how long to wait until another commit may be made."""
        if self.commits_per_hour is None:
            return 0.0
        recent = [when for when in self.made if when > self.clock() - 3600]
        if len(recent) < self.commits_per_hour:
            return 0.0
        return max(0.0, recent[-self.commits_per_hour] + 3600 - self.clock())

    def count_commit(self) -> None:
        """Take note of a commit that is made now."""
        self.made.append(self.clock())

    def expected_seconds(self, commits: int) -> float:
        """Return how long so many commits wait for each other, sending apart."""
        return 0.0 if self.commits_per_hour is None else max(0, commits - 1) // self.commits_per_hour * 3600.0
