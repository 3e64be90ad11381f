"""What is kept of a training: the ledger, checkpoints, times."""

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from treering.checkpoints.schedule import checkpoint_name, resumable_steps
from treering.checkpoints.state import TrainingState, without_moments
from treering.checkpoints.store import (
    digest_tensors,
    read_checkpoint_record,
    refuse_non_finite,
    save_checkpoint,
    saved_steps,
    split_digests,
)
from treering.config.run_directory import RunDirectory
from treering.order.batches import Batches
from treering.provenance.canonical import canonical_json
from treering.provenance.files import remove_tree
from treering.training.background import Background
from treering.training.ledger import Kept, Ledger, Opening
from treering.training.steps import StepReport


def preempted_states(run: RunDirectory) -> Path:
    """Return the folder of the latest whole state that is no checkpoint: of a stop by a signal, or beside weights kept alone.

    A later one takes its place, and so does a checkpoint that can be resumed; it goes when the run is finished.
    """
    return run.path / ".training.working"


class Bystander:
    """Any rank but the first: it keeps nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Do nothing."""

    def begin(self, state: TrainingState | None) -> None:
        """Do nothing with the state of step 0."""

    def update(self, report: StepReport, state: TrainingState | None) -> None:
        """Do nothing with what an update did."""

    def preempted(self, state: TrainingState | None) -> None:
        """Do nothing with the state at which the run is told to stop."""


class Keeper(Bystander):
    """Rank 0: writes what the loop yields, a step's line before its checkpoint, in a thread beside the loop.

    The loop waits for the copy of a state that is to be saved, and for the save before, where it is still at work. Lines of
    later steps wait for the digests of the checkpoint they are bound to, so the ledger on the disk is never ahead of it.
    """

    def __init__(self, run: RunDirectory, opening: Opening, place: Path | None, batches: Batches) -> None:
        self._run, self._digest = run, opening.run_digest
        self._resumable = resumable_steps(run.recipe)
        self._tokens_per_step = batches.global_batch_size * batches.sequence_length
        path = run.stage("training") / "ledger.jsonl"
        if place is None:
            self._ledger = Ledger(path, opening, 0, None)
        else:
            record = read_checkpoint_record(place, opening.run_digest)
            self._ledger = Ledger(path, opening, record["step"], record["ledger_digest"])
        self._observed = _Observed(run.observe / "training.jsonl", run.recipe.observe.log_every)
        self._background, self._copy = Background(), None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait until all is written, and close the files.

        Raises:
            NonFiniteError, IntegrityError, StorageError: As for `save_checkpoint`, where the block ends without an error.
        """
        with closing(self._ledger), closing(self._observed):
            self._background.__exit__(kind, error, trace)

    def begin(self, state: TrainingState | None) -> None:
        """Have written down where training begins, and saved where it is planned."""
        write = self._ledger.begin
        self._background.do(partial(write, None) if state is None else partial(self._keep, self._copied(state), write))

    def update(self, report: StepReport, state: TrainingState | None) -> None:
        """Have written down what an update did, and the state saved where the step is planned.

        Raises:
            NonFiniteError, IntegrityError, StorageError: As for `save_checkpoint`, of an earlier step.
        """
        write = partial(self._ledger.append, report)
        self._background.do(partial(write, None) if state is None else partial(self._keep, self._copied(state), write))
        self._observed.append(report)

    def preempted(self, state: TrainingState | None) -> None:
        """Return when all is on the disk; the state is that of an unplanned step, None where a whole one is kept already.

        Raises:
            NonFiniteError, IntegrityError, StorageError: As for `save_checkpoint`.
        """
        self._background.wait()
        if state is not None:
            here = state.to(torch.device("cpu"))
            self._save_beside(here, digest_tensors(here))

    def _copied(self, state: TrainingState) -> TrainingState:
        self._background.wait()
        self._copy = state.copy_into(self._copy)
        return self._copy

    def _keep(self, state: TrainingState, write: Callable[[Kept], None]) -> None:
        digests = digest_tensors(state)
        write(Kept(*split_digests(digests)))
        refuse_non_finite(state)  # the moments too where they are not kept: which are may not decide how a run ends
        resumable = state.step in self._resumable
        # The checkpoint first: a whole state beside it then says that it is there.
        whole = resumable and state.step > 0
        self._save(self._run.stage("checkpoints"), state if whole else without_moments(state), digests)
        if resumable:
            remove_tree(preempted_states(self._run))
        else:
            self._save_beside(state, digests)

    def _save_beside(self, state: TrainingState, digests: dict[str, str]) -> None:
        folder = preempted_states(self._run)
        self._save(folder, state, digests)
        for step in saved_steps(folder):
            if step != state.step:
                remove_tree(folder / checkpoint_name(step))

    def _save(self, folder: Path, state: TrainingState, digests: dict[str, str]) -> None:
        self._ledger.sync()
        save_checkpoint(folder, state, self._digest, state.step * self._tokens_per_step, self._ledger.digest, digests)


class _Observed:
    """Times of this process, in `observe/`: what was watched and is in no digest."""

    def __init__(self, path: Path, every: int) -> None:
        self._every, self._start = every, time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def close(self) -> None:
        self._file.close()

    def append(self, report: StepReport) -> None:
        if report.step % self._every == 0:
            elapsed = time.monotonic() - self._start
            self._file.write(canonical_json({"step": report.step, "elapsed_seconds": elapsed}) + b"\n")
