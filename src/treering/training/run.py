"""Consuming the loop: metrics and checkpoints as the steps come, from wherever the run stands."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from treering.checkpoints.schedule import checkpoint_name, planned_steps
from treering.checkpoints.state import TrainingState, initial_state
from treering.checkpoints.store import (
    digest_tensors,
    load_checkpoint,
    read_checkpoint_record,
    save_checkpoint,
    saved_steps,
    split_digests,
)
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.errors import EnvironmentMismatch, IntegrityError, PreemptionError
from treering.model.shapes import count_parameters, operations_per_token
from treering.order.batches import Batches
from treering.order.stage import open_batches
from treering.provenance.canonical import canonical_json, read_record, write_record
from treering.provenance.digests import digest_value
from treering.provenance.environment import describe_machine, describe_software
from treering.provenance.files import remove_tree, storage_errors
from treering.provenance.manifests import MANIFEST, Manifest, read_manifest
from treering.provenance.progress import SILENCE, Progress, Task
from treering.training.determinism import describe_arithmetic, open_device, set_arithmetic
from treering.training.ledger import Kept, Ledger, LedgerLine, Opening, read_ledger
from treering.training.ranks import ALONE, Ranks
from treering.training.signals import StopSignals
from treering.training.steps import StepReport, steps

_ENVIRONMENT = ("environment", 1)
# Of the software recorded, what computes weights; the rest is for the reader.
_SOFTWARE_THAT_COMPUTES = ("treering", "python", "numpy", "torch")


def train(run: RunDirectory, progress: Progress = SILENCE, ranks: Ranks = ALONE) -> Manifest:
    """Train to the last step from wherever the run stands, and return the stage's manifest.

    Args:
        ranks: The processes that train together, each calling this with the same run; rank 0 writes.

    Raises:
        EnvironmentMismatch: When the run was begun on another machine or with other software, this one lacks the device, or
            the ranks are not alike.
        NonFiniteError: When a loss, gradient or weight is not finite.
        IntegrityError: When what earlier stages or checkpoints left is not what was written.
        PreemptionError: When SIGTERM or SIGINT asked for an end; the work so far is kept.
        RankError: When another rank has ended.
        StorageError: When the disk is full or the run's folder cannot be written.
    """
    inputs = run.reads("tokens", "order")
    if (run.stage("checkpoints") / MANIFEST).exists() and run.find("checkpoints", inputs):
        reads = {**inputs, **run.reads("checkpoints")}
        if manifest := run.find("training", reads):
            return manifest
    set_arithmetic(run.recipe.training.threads)
    device = open_device(run.recipe.training)
    ranks.agree("the run", digest_value([run_digest(run.recipe), inputs]))
    ranks.agree("the environment", digest_value(_that_computes(_environment(run))))
    with storage_errors(run.path):
        if ranks.rank == 0:
            _record_environment(run)
        _advance(run, Opening(run_digest(run.recipe), inputs), device, progress, ranks)
        if ranks.rank == 0:
            _finish(run, inputs)
        ranks.agree("the end", run_digest(run.recipe))  # and nobody leaves before all is written
    return run.verified("training")


def finished_checkpoints(run: RunDirectory) -> dict[int, str]:
    """Return step and content digest of every checkpoint of a finished run, in step order.

    Raises:
        InputError: When the run has not been trained to the end.
        IntegrityError: When a planned checkpoint is missing, or one is not what its manifest says.
    """
    run.verified("checkpoints")
    folder, planned = run.stage("checkpoints"), planned_steps(run.recipe.checkpoints, run.recipe.training.steps)
    if (found := saved_steps(folder)) != list(planned):
        raise IntegrityError("the checkpoints are not those planned", where=folder, expected=planned, found=found)
    # The files of each are among those just verified.
    return {step: read_manifest(folder / checkpoint_name(step)).digest for step in planned}


def _finish(run: RunDirectory, inputs: dict[str, str]) -> None:
    run.seal(run.stage("checkpoints"), "checkpoints", inputs)
    _record_training(run, inputs)
    run.seal(run.stage("training"), "training", {**inputs, **run.reads("checkpoints")})
    remove_tree(_preempted(run))


def _advance(run: RunDirectory, opening: Opening, device: torch.device, progress: Progress, ranks: Ranks) -> None:
    recipe, planned = run.recipe, planned_steps(run.recipe.checkpoints, run.recipe.training.steps)
    batches = open_batches(run)
    place = _place_to_resume(run)
    state = ranks.place(_load(run, place), device)
    ranks.agree("the step to go on from", digest_value(state.step))
    with (
        StopSignals() as signals,
        closing(_Keeper(run, opening, place, batches) if ranks.rank == 0 else _Bystander()) as keeper,
        progress.task("training", recipe.training.steps, "steps") as task,
    ):
        task.advance(state.step)
        if place is None:
            keeper.begin(ranks.collect(state), kept=0 in planned)
        for report in steps(state, batches, recipe, ranks):
            kept = report.step in planned
            keeper.update(report, ranks.collect(state) if kept else None)
            if ranks.any([signals.received])[0] and report.step < recipe.training.steps:
                if not kept:
                    keeper.preempted(ranks.collect(state))
                raise _preemption(run, report.step)
            _tell(task, report)


class _Bystander:
    """Any rank but the first: it keeps nothing."""

    def begin(self, state: TrainingState | None, *, kept: bool) -> None:
        """Do nothing with the state of step 0."""

    def update(self, report: StepReport, state: TrainingState | None) -> None:
        """Do nothing with what an update did."""

    def preempted(self, state: TrainingState | None) -> None:
        """Do nothing with the state at which the run is told to stop."""

    def close(self) -> None:
        """Do nothing."""


class _Keeper(_Bystander):
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

    def begin(self, state: TrainingState | None, *, kept: bool) -> None:
        """Write down where training begins, and save it where it is planned."""
        digests = digest_tensors(state) if state is not None and kept else None
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
            self._save(_preempted(self._run), state, digest_tensors(state))

    def close(self) -> None:
        """Close the files."""
        self._ledger.close()
        self._observed.close()

    def _save(self, folder: Path, state: TrainingState, digests: dict[str, str]) -> None:
        self._ledger.sync()
        save_checkpoint(folder, state, self._digest, state.step * self._tokens_per_step, self._ledger.digest, digests)


def _kept(digests: dict[str, str] | None) -> Kept | None:
    return None if digests is None else Kept(*split_digests(digests))


def _preempted(run: RunDirectory) -> Path:
    return run.path / ".training.working"


def _preemption(run: RunDirectory, step: int) -> PreemptionError:
    return PreemptionError(
        "training was told to stop, and did",
        where=run.path,
        found=f"{step} of {run.recipe.training.steps} updates done, all of them kept",
        advice="the same command goes on from there",
    )


def _place_to_resume(run: RunDirectory) -> Path | None:
    """Return the latest whole state's folder, or None where there is none yet."""
    folders = (run.stage("checkpoints"), _preempted(run))
    saved = [(step, folder / checkpoint_name(step)) for folder in folders for step in saved_steps(folder)]
    return max(saved, key=lambda found: found[0])[1] if saved else None


def _load(run: RunDirectory, place: Path | None) -> TrainingState:
    if place is None:
        return initial_state(run.recipe.model)
    step = int(place.name.removeprefix("step"))
    return load_checkpoint(place.parent, step, run_digest(run.recipe))


def _tell(task: Task, report: StepReport) -> None:
    task.note(f"loss {report.loss_nats:.3f}")
    task.advance()


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


def _record_environment(run: RunDirectory) -> None:
    path, found = run.stage("training") / "environment.json", _environment(run)
    if not path.exists():
        write_record(path, *_ENVIRONMENT, found)
        return
    differing = environment_differences(run)
    if differing:
        raise EnvironmentMismatch(
            "this run was begun in another environment, and going on in this one could change bits",
            where=run.path,
            expected=f"the environment in {path}",
            found="(recorded ≠ here) " + "; ".join(differing),
            advice="go on where it was begun, or train anew under another name",
        )


def environment_differences(run: RunDirectory) -> list[str]:
    """Return what can change bits and is not here as it was where the run was begun, each with both values.

    Raises:
        FormatError: When no environment was recorded.
    """
    recorded = read_record(run.stage("training") / "environment.json", *_ENVIRONMENT)
    before, here = _that_computes(recorded), _that_computes(_environment(run))
    return [f"{name}: {before.get(name)} ≠ {here.get(name)}" for name in here if before.get(name) != here[name]]


def _environment(run: RunDirectory) -> dict[str, Any]:
    return {
        "software": describe_software(),
        "machine": describe_machine(),
        "arithmetic": describe_arithmetic(run.recipe.training),
    }


def _that_computes(environment: dict[str, Any]) -> dict[str, Any]:
    software = {name: environment["software"].get(name) for name in _SOFTWARE_THAT_COMPUTES}
    return {**software, **environment["machine"], **environment["arithmetic"]}


def finished_ledger(run: RunDirectory) -> list[LedgerLine]:
    """Return every line of a run's ledger, followed from the first to the last.

    Raises:
        IntegrityError: When a line is missing, changed, or not bound to the one before.
        FormatError: When there is no ledger, or it is another run's.
    """
    return _follow(run, run.reads("tokens", "order"))


def _follow(run: RunDirectory, inputs: dict[str, str]) -> list[LedgerLine]:
    path = run.stage("training") / "ledger.jsonl"
    lines = list(read_ledger(path, Opening(run_digest(run.recipe), inputs)))
    if len(lines) != run.recipe.training.steps + 1:
        raise IntegrityError(
            "the ledger does not reach the last step", where=path, expected=run.recipe.training.steps, found=len(lines) - 1
        )
    return lines


def _record_training(run: RunDirectory, inputs: dict[str, str]) -> None:
    recipe, lines = run.recipe, _follow(run, inputs)
    reports = [line.report for line in lines if line.report is not None]
    tail = reports[-max(1, len(reports) // 10) :]
    body = {
        "steps": recipe.training.steps,
        "positions": recipe.training.steps * recipe.training.global_batch_size,
        "tokens": reports[-1].tokens,
        **count_record(recipe),
        "first_loss_nats": reports[0].loss_nats,
        "last_loss_nats": reports[-1].loss_nats,
        "mean_loss_nats_last_tenth": sum(report.loss_nats for report in tail) / len(tail),
        "checkpoint_steps": list(planned_steps(recipe.checkpoints, recipe.training.steps)),
        "run_digest": run_digest(recipe),
        "ledger_digest": lines[-1].digest,
        "optimizer": recipe.training.optimizer.name,
    }
    write_record(run.stage("training") / "training.json", "training", 1, body)


def count_record(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's parameter counts and the floating-point operations of its whole training, for records."""
    counts = count_parameters(recipe.model)
    tokens = recipe.training.steps * recipe.training.global_batch_size * recipe.order.sequence_length
    return {
        "parameters": counts.parameters,
        "parameters_without_embeddings": counts.parameters_without_embeddings,
        "floating_point_operations": tokens * operations_per_token(recipe.model, recipe.order.sequence_length),
    }
