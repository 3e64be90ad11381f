"""Re-running a stretch of training from what was published, and comparing it bit by bit."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import torch

from treering.checkpoints.schedule import checkpoint_name, resumable_steps
from treering.checkpoints.state import TrainingState, named_tensors
from treering.checkpoints.store import (
    digest_tensors,
    load_checkpoint,
    load_kept,
    read_checkpoint_record,
    split_digests,
)
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.errors import InputError
from treering.order.stage import open_batches
from treering.provenance.progress import SILENCE, Progress
from treering.training.determinism import open_device, set_arithmetic
from treering.training.environment import environment_differences
from treering.training.ledger import Kept, LedgerLine
from treering.training.run import finished_checkpoints, finished_ledger
from treering.training.steps import steps
from treering.verification.verdicts import Check, Verdict


@dataclass(frozen=True)
class Segment:
    """The updates from step `start` to step `stop`."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.start}:{self.stop}"


def all_segments(run: RunDirectory) -> list[Segment]:
    """Return the segments from each checkpoint that can be resumed to the next."""
    finished_checkpoints(run)
    return [
        Segment(start, stop) for start, stop in pairwise(resumable_steps(run.recipe.checkpoints, run.recipe.training.steps))
    ]


def refuse_absent(run: RunDirectory, segment: Segment) -> None:
    """Do nothing where a segment lies in a run's recipe and begins at a checkpoint that can be resumed; no file is looked at.

    Raises:
        InputError: When it does not.
    """
    last = run.recipe.training.steps
    kept = resumable_steps(run.recipe.checkpoints, last)
    if segment.start not in kept or not segment.start < segment.stop <= last:
        raise InputError(
            "this segment cannot be re-run",
            where=run.path,
            expected=f"A:B with A one of {', '.join(map(str, kept))} and A < B ≤ {last}",
            found=segment,
        )


def verify_segment(run: RunDirectory, segment: Segment, progress: Progress = SILENCE) -> Check:
    """Train a segment again from its first checkpoint, and return whether ledger and checkpoints came out equal.

    The first difference is named: the update and its number, or the tensor, its first index and both values. Where this is
    another machine or software than the recorded one and the bits differ, that decides nothing, and the verdict is `not run`.

    Raises:
        InputError: When the segment is not in the run, or does not begin at a checkpoint.
        IntegrityError: When what the segment begins with is not what its digests say.
        EnvironmentMismatch: When this machine lacks the recipe's device.
    """
    refuse_absent(run, segment)
    differing = environment_differences(run)
    found = next(_differences(run, segment, progress), None)
    if found is None:
        return Check(f"segment {segment}", Verdict.REPRODUCED)
    if differing:
        return Check(f"segment {segment}", Verdict.NOT_RUN, f"{found}; but here (recorded ≠ here) {'; '.join(differing)}")
    return Check(f"segment {segment}", Verdict.DIVERGED, found)


def _differences(run: RunDirectory, segment: Segment, progress: Progress) -> Iterator[str]:
    lines = finished_ledger(run)
    set_arithmetic(run.recipe.training.threads)
    saved = load_checkpoint(run.stage("checkpoints"), segment.start, run_digest(run.recipe))
    state = saved.to(open_device(run.recipe.training))
    updates = segment.stop - segment.start
    with progress.task(f"segment {segment}", updates, "steps") as task:
        for report in islice(steps(state, open_batches(run), run.recipe), updates):
            line = lines[report.step]
            yield from _differences_of_numbers(vars(line.report), vars(report))
            yield from _differences_of_state(run, line, state)
            task.advance()


def _differences_of_numbers(published: dict[str, Any], again: dict[str, Any]) -> Iterator[str]:
    for name, value in published.items():
        if again[name] != value:
            step = published["step"]
            yield f"update {step - 1}, to step{step}: {name} {value!r} published, {again[name]!r} here"


def _differences_of_state(run: RunDirectory, line: LedgerLine, state: TrainingState) -> Iterator[str]:
    if line.checkpoint is None or Kept(*split_digests(digest_tensors(state))) == line.checkpoint:
        return
    folder, digest = run.stage("checkpoints"), run_digest(run.recipe)
    published = load_kept(folder, line.step, digest)
    for theirs, ours in zip(named_tensors(published), named_tensors(state), strict=True):
        for name, tensor in theirs.items():
            here = ours[name].detach().cpu()
            unequal = (tensor.view(torch.int32) != here.view(torch.int32)).reshape(-1).nonzero()
            if unequal.numel():
                index = int(unequal[0])
                values = f"{float(tensor.reshape(-1)[index])!r} published, {float(here.reshape(-1)[index])!r} here"
                yield f"step{line.step}: {name}, number {index} of {tensor.numel()}: {values}; {unequal.numel()} differ"
    recorded = read_checkpoint_record(folder / checkpoint_name(line.step), digest)["tensors"]
    for name, found in digest_tensors(state).items():
        if recorded.get(name) != found:  # moments that were not kept have left their digests
            yield f"step{line.step}: {name}: {recorded.get(name)} published, {found} here"
    yield f"step{line.step}: the ledger's digests are not those of the state"
