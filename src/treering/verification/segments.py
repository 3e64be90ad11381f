"""The segments of a run: which there are, and which can be re-run."""

from dataclasses import dataclass
from itertools import pairwise

from treering.checkpoints.schedule import resumable_steps
from treering.config.run_directory import RunDirectory
from treering.errors import InputError
from treering.training.run import finished_checkpoints


@dataclass(frozen=True)
class Segment:
    """The updates from step `start` to step `stop`."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.start}:{self.stop}"

    @property
    def name(self) -> str:
        """What its check is called."""
        return f"segment {self}"


def all_segments(run: RunDirectory) -> list[Segment]:
    """Return the segments from each checkpoint that can be resumed to the next."""
    finished_checkpoints(run)
    return [Segment(start, stop) for start, stop in pairwise(resumable_steps(run.recipe))]


def refuse_absent(run: RunDirectory, segment: Segment) -> None:
    """Do nothing where a segment lies in a run's recipe and begins at a checkpoint that can be resumed; no file is looked at.

    Raises:
        InputError: When it does not.
    """
    last = run.recipe.training.steps
    kept = resumable_steps(run.recipe)
    if segment.start not in kept or not segment.start < segment.stop <= last:
        raise InputError(
            "this segment cannot be re-run",
            where=run.path,
            expected=f"A:B with A one of {', '.join(map(str, kept))} and A < B ≤ {last}",
            found=segment,
        )
