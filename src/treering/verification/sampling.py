"""Which segments are re-run, and in which order."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.errors import InputError, NotFetchedError
from treering.provenance.digests import digest_value
from treering.training.estimate import training_seconds
from treering.training.run import count_record
from treering.verification.segments import Segment, all_segments, refuse_absent
from treering.verification.verdicts import Check


@dataclass(frozen=True)
class Wanted:
    """Which segments to re-run: those named, then every one, or a sample of so many, picked by the seed.

    With a budget and nothing else, every one is wanted; all but the named ones then come in the seed's order. `data` asks for
    the data to be made again, too.
    """

    named: tuple[Segment, ...] = ()
    every: bool = False
    sample: int = 0
    seed: int = 0
    budget_seconds: float | None = None
    data: bool = False

    @property
    def picks(self) -> bool:
        """Whether the seed decides which segments are re-run."""
        return bool(self.sample) or self.budget_seconds is not None

    def refuse_absent(self, run: RunDirectory) -> None:
        """Do nothing where all that is named is in the run; no file is looked at.

        Raises:
            InputError: When it is not, or cannot be picked from all, since checkpoints were left out when the run was fetched.
        """
        if (self.every or self.picks) and run.left_out("checkpoints"):
            raise NotFetchedError(
                "which segments are re-run cannot be picked from all",
                where=run.path,
                found="checkpoints that were not fetched",
                advice="name segments with --segment A:B, or fetch --checkpoints",
            )
        if run.recipe.training.imported and (self.named or self.every or self.picks):
            raise InputError(
                "no segment of this run can be re-run",
                where=run.path,
                found="updates that GPT-NeoX computed, and checkpoints without moments",
                advice="`treering verify RUN --data` reads its checkpoints again",
            )
        for segment in self.named:
            refuse_absent(run, segment)

    def choose(self, run: RunDirectory) -> list[Segment]:
        """Return the segments, each once.

        Raises:
            InputError, IntegrityError: When the run has not been trained, or its checkpoints are not those planned.
        """
        budgeted = self.budget_seconds is not None
        everything = self.every or (budgeted and not self.named and not self.sample)
        if not (everything or self.sample):
            return list(dict.fromkeys(self.named))
        segments = all_segments(run) if everything and not budgeted else shuffled(all_segments(run), self.seed)
        return list(dict.fromkeys([*self.named, *(segments if everything else segments[: self.sample])]))


def shuffled(segments: Iterable[Segment], seed: int) -> list[Segment]:
    """Return segments in an order that nobody knows who does not know the seed: by the digest of seed and segment.

    The first K are a sample in which every segment is as likely as any other, so that no stretch is safer to forge.
    """
    return sorted(segments, key=lambda segment: digest_value(["segment", seed, segment.start, segment.stop]))


def within_budget(
    seconds: float, segments: Iterable[Segment], recipe: Recipe, verify: Callable[[Segment], Check]
) -> Iterator[Check]:
    """Verify, one after the other, the segments that are likely to end in time, and yield the check of each.

    What an update takes is estimated for the first, and measured from then on; a segment that is too long is passed over for
    a shorter one.
    """
    end, seconds_per_update = time.monotonic() + seconds, _estimate(recipe)
    for segment in segments:
        updates, start = segment.stop - segment.start, time.monotonic()
        if start + seconds_per_update * updates <= end:
            yield verify(segment)
            seconds_per_update = (time.monotonic() - start) / updates


def _estimate(recipe: Recipe) -> float:
    operations = count_record(recipe)["floating_point_operations"]
    return (training_seconds(recipe.training, operations) or 0.0) / recipe.training.steps
