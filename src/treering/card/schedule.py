"""Which checkpoints a release has, in words: the list itself is read, not the intention behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

_SHORTEST_SERIES = 3
_PREFERRED_EXAMPLES = (1000, 64)


@dataclass(frozen=True)
class CheckpointSchedule:
    """The steps that were kept, seen as two series: the powers of two from 1 on, and the multiples of `every`.

    Args:
        steps: Steps in ascending order, at least one.
        every: The distance at which steps were meant to be kept.
    """

    steps: tuple[int, ...]
    every: int

    @property
    def powers(self) -> tuple[int, ...]:
        """The powers of two from 1 on without a gap, where they are a series of their own."""
        series: list[int] = []
        while (power := 1 << len(series)) in self.steps:
            series.append(power)
        of_their_own = len(series) >= _SHORTEST_SERIES and any(step % self.every for step in series)
        return tuple(series) if of_their_own else ()

    @property
    def multiples(self) -> tuple[int, ...]:
        """The multiples of `every` that were kept, without 0."""
        return tuple(step for step in self.steps if step and step % self.every == 0)

    @property
    def missing(self) -> tuple[int, ...]:
        """The multiples of `every` up to the last step that were not kept, without 0."""
        kept = frozenset(self.steps)
        return tuple(step for step in range(self.every, self.steps[-1] + 1, self.every) if step not in kept)

    @property
    def others(self) -> tuple[int, ...]:
        """Steps that neither series explains and that are neither the first nor the last of all."""
        explained = {0, self.steps[-1], *self.powers, *self.multiples}
        return tuple(step for step in self.steps if step not in explained)


def example_step(steps: Sequence[int]) -> int:
    """Return the step to show loading with: a familiar one where there is one, else the one in the middle."""
    return next((step for step in _PREFERRED_EXAMPLES if step in steps), steps[len(steps) // 2])


def equal_weights(revisions: Sequence[dict[str, object]]) -> list[list[str]]:
    """Return the groups of revisions, by name, whose weights are the same bytes."""
    groups: dict[object, list[str]] = {}
    for revision in revisions:
        groups.setdefault(revision["weights_digest"], []).append(str(revision["name"]))
    return [names for names in groups.values() if len(names) > 1]
