"""What is kept of a training: the ledger, checkpoints, times."""

import time
from pathlib import Path

from treering.checkpoints.state import TrainingState
from treering.checkpoints.store import digest_tensors, read_checkpoint_record, save_checkpoint, split_digests
from treering.config.run_directory import RunDirectory
from treering.order.batches import Batches
from treering.provenance.canonical import canonical_json
from treering.training.ledger import Kept, Ledger, Opening
from treering.training.steps import StepReport


def preempted_states(run: RunDirectory) -> Path:
    """Return the folder of the state at which a signal stopped a run; it goes when the run is finished."""
    return run.path / ".training.working"


class Bystander:
    """Any rank but the first: it keeps nothing."""

    def begin(self, state: TrainingState | None) -> None:
        """Do nothing with the state of step 0."""

    def update(self, report: StepReport, state: TrainingState | None) -> None:
        """Do nothing with what an update did."""

    def preempted(self, state: TrainingState | None) -> None:
        """Do nothing with the state at which the run is told to stop."""

    def close(self) -> None:
        """Do nothing."""


class Keeper(Bystander):
    """Rank 0: writes what the loop yields, a step's line before its checkpoint."""

    def __init__(self, run: RunDirectory, opening: Opening, place: Path | None, batches: Batches) -> None:
        self._run, self._digest = run, opening.run_digest
        self._tokens_per_step = batches.global_batch_size * batches.sequence_length
        path = run.stage("training") / "ledger.jsonl"
        if place is None:
            self._ledger = Ledger(path, opening, 0, None)
        else:
            record = read_checkpoint_record(place, opening.run_digest)
            self._ledger = Ledger(path, opening, record["step"], record["ledger_digest"])
        self._observed = _Observed(run.observe / "training.jsonl", run.recipe.observe.log_every)

    def begin(self, state: TrainingState | None) -> None:
        """Write down where training begins, and save it where it is planned."""
        digests = None if state is None else digest_tensors(state)
        self._ledger.begin(_kept(digests))
        if state is not None and digests is not None:
            self._save(self._run.stage("checkpoints"), state, digests)

    def update(self, report: StepReport, state: TrainingState | None) -> None:
        """Write down what an update did, and save the state where the step is planned."""
        digests = None if state is None else digest_tensors(state)
        self._ledger.append(report, _kept(digests))
        if state is not None and digests is not None:
            self._save(self._run.stage("checkpoints"), state, digests)
        self._observed.append(report)

    def preempted(self, state: TrainingState | None) -> None:
        """Save the state of an unplanned step, in place of an earlier one; it goes when the run is finished."""
        if state is not None:
            self._save(preempted_states(self._run), state, digest_tensors(state))

    def close(self) -> None:
        """Close the files."""
        self._ledger.close()
        self._observed.close()

    def _save(self, folder: Path, state: TrainingState, digests: dict[str, str]) -> None:
        self._ledger.sync()
        save_checkpoint(folder, state, self._digest, state.step * self._tokens_per_step, self._ledger.digest, digests)


def _kept(digests: dict[str, str] | None) -> Kept | None:
    return None if digests is None else Kept(*split_digests(digests))


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
