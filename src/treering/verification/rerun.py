"""Re-running a stretch of training from what was published, and comparing it bit by bit."""

import gc
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

from treering.checkpoints.schedule import checkpoint_name, planned_steps, resumable_steps
from treering.checkpoints.state import TrainingState, named_tensors
from treering.checkpoints.store import digest_tensors, load_checkpoint, load_kept, read_checkpoint_record, split_digests
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import TREERING, Recipe
from treering.order.stage import open_batches
from treering.provenance.progress import SILENCE, Progress
from treering.training.determinism import open_device, set_arithmetic
from treering.training.environment import environment_differences
from treering.training.ledger import Kept, LedgerLine
from treering.training.run import finished_ledger
from treering.training.steps import steps
from treering.verification.acceptance import Outcome, judge, neighbour, other_arithmetic
from treering.verification.parting import first_difference
from treering.verification.segments import Segment, refuse_absent
from treering.verification.verdicts import Check, Verdict

_SEVERITY = [Verdict.REPRODUCED, Verdict.CONSISTENT, Verdict.NOT_RUN, Verdict.DIVERGED]


def verify_segment(run: RunDirectory, segment: Segment, progress: Progress = SILENCE) -> Check:
    """Train a segment again from its first checkpoint, and return whether ledger and checkpoints came out equal.

    The first difference is named: the update and its number, or the tensor, its first index and both values. Where this is
    another machine or software than the recorded one, or DeepSpeed had computed an update by then, different bits decide
    nothing, and `verification.acceptance` judges.

    Raises:
        InputError: When the segment is not in the run, or does not begin at a checkpoint.
        IntegrityError: When what the segment begins with is not what its digests say.
        EnvironmentMismatch: When this machine lacks the recipe's device.
    """
    refuse_absent(run, segment)
    differing, engines = environment_differences(run), _other_engines(run, segment)
    step, found = next(_differences(run, segment, progress), (0, None))
    if found is None:
        return Check(segment.name, Verdict.REPRODUCED)
    if not differing and step < min(engines, default=math.inf):
        return Check(segment.name, Verdict.DIVERGED, found)
    differing += dict.fromkeys(f"engine: {engine} ≠ {TREERING}" for engine in engines.values())
    judged = _judge(run, segment, progress)
    return replace(judged, found=f"{judged.found}; here (recorded ≠ here) {'; '.join(differing)}")


def _other_engines(run: RunDirectory, segment: Segment) -> dict[int, str]:
    """Return the steps of a segment to which an engine led that sums gradients in another order, each with its name."""
    lines = finished_ledger(run)[segment.start + 1 : segment.stop + 1]
    return {line.step: line.report.engine for line in lines if line.report is not None and line.report.engine != TREERING}


def _judge(run: RunDirectory, segment: Segment, progress: Progress) -> Check:
    """Judge a segment on other hardware, from each of its checkpoints to the next: the shorter, the less noise."""
    if segment.stop not in planned_steps(run.recipe):
        found = f"the bits differ, and step{segment.stop} was not kept, so there are no weights to judge by"
        return Check(segment.name, Verdict.NOT_RUN, found)
    checks: list[Check] = []
    inside = [step for step in resumable_steps(run.recipe) if segment.start <= step < segment.stop]
    for pair in pairwise([*inside, segment.stop]):
        checks.extend(_judge_stretch(run, Segment(*pair), segment.name, progress))
    return max(checks, key=lambda check: _SEVERITY.index(check.verdict))


def _judge_stretch(run: RunDirectory, stretch: Segment, name: str, progress: Progress) -> Iterator[Check]:
    """Yield a check for each checkpoint after the first, two re-runs going side by side."""
    gc.collect()  # compiled, a network holds on to itself and so to its weights: two are to come
    start = _published(run, stretch.start)
    here = _Rerun(run, run.recipe, _published(run, stretch.start))
    elsewhere = _Rerun(run, other_arithmetic(run.recipe), neighbour(start))
    lines = finished_ledger(run)[stretch.start + 1 : stretch.stop + 1]
    with progress.task(f"judging {stretch}", len(lines), "steps") as task:
        for line in lines:
            here.advance()
            elsewhere.advance()
            if line.checkpoint is not None:
                reports = [before.report for before in lines[: len(here.outcome.reports)] if before.report is not None]
                yield judge(name, start, Outcome(reports, _kept(run, line.step)), here.outcome, elsewhere.outcome)
            task.advance()


class _Rerun:
    """A loop that goes on where it was left, in its recipe's arithmetic."""

    def __init__(self, run: RunDirectory, recipe: Recipe, state: TrainingState) -> None:
        self._threads = recipe.training.threads
        self.outcome = Outcome([], state.to(open_device(recipe.training)))
        self._loop = steps(self.outcome.state, open_batches(run), recipe)

    def advance(self) -> None:
        set_arithmetic(self._threads)
        self.outcome.reports.append(next(self._loop))


def _kept(run: RunDirectory, step: int) -> TrainingState:
    """Return what was kept of a step: all weights, and moments or none."""
    return load_kept(run.stage("checkpoints"), step, run_digest(run.recipe))


def _published(run: RunDirectory, step: int) -> TrainingState:
    return load_checkpoint(run.stage("checkpoints"), step, run_digest(run.recipe))


def _differences(run: RunDirectory, segment: Segment, progress: Progress) -> Iterator[tuple[int, str]]:
    """Yield each difference with the step after which it shows."""
    lines = finished_ledger(run)
    set_arithmetic(run.recipe.training.threads)
    state = _published(run, segment.start).to(open_device(run.recipe.training))
    updates = segment.stop - segment.start
    with progress.task(segment.name, updates, "steps") as task:
        for report in islice(steps(state, open_batches(run), run.recipe), updates):
            line = lines[report.step]
            for difference in _differences_of_numbers(vars(line.report), vars(report)):
                yield report.step, difference
            for difference in _differences_of_state(run, line, state):
                yield report.step, difference
            task.advance()


def _differences_of_numbers(published: dict[str, Any], again: dict[str, Any]) -> Iterator[str]:
    for name, value in published.items():
        if again[name] != value:
            step = published["step"]
            yield f"update {step - 1}, to step{step}: {name} {value!r} published, {again[name]!r} here"


def _differences_of_state(run: RunDirectory, line: LedgerLine, state: TrainingState) -> Iterator[str]:
    if line.checkpoint is None or Kept(*split_digests(digest_tensors(state))) == line.checkpoint:
        return
    published = _kept(run, line.step)
    for theirs, ours in zip(named_tensors(published), named_tensors(state), strict=True):
        for name, tensor in theirs.items():
            if (apart := first_difference(tensor, ours[name])) is not None:
                where = f"step{line.step}: {name}, number {apart['index']} of {apart['numbers']}"
                yield "{}: {!r} published, {!r} here; {} differ".format(where, *apart["values"], apart["differing"])
    recorded = read_checkpoint_record(run.stage("checkpoints") / checkpoint_name(line.step), run_digest(run.recipe))["tensors"]
    for name, found in digest_tensors(state).items():
        if recorded.get(name) != found:  # moments that were not kept have left their digests
            yield f"step{line.step}: {name}: {recorded.get(name)} published, {found} here"
    yield f"step{line.step}: the ledger's digests are not those of the state"
