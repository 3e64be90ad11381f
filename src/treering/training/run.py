"""Consuming the loop, from wherever the run stands to its last step."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from treering.checkpoints.schedule import checkpoint_name, planned_steps, resumable_steps
from treering.checkpoints.state import TrainingState, initial_state
from treering.checkpoints.store import keeps_moments, load_checkpoint, saved_steps
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.errors import InputError, IntegrityError, PreemptionError
from treering.model.shapes import count_parameters, operations_per_token
from treering.order.stage import open_batches
from treering.provenance.canonical import write_record
from treering.provenance.digests import digest_value
from treering.provenance.files import remove_tree, storage_errors
from treering.provenance.manifests import MANIFEST, Manifest, read_manifest
from treering.provenance.progress import SILENCE, Progress, Task
from treering.training.determinism import open_device, set_arithmetic
from treering.training.environment import describe_environment, record_environment, that_computes
from treering.training.history import History
from treering.training.keeper import Bystander, Keeper, preempted_states
from treering.training.kernels import refuse_kernels
from treering.training.ledger import LedgerLine, Opening, read_ledger
from treering.training.ranks import ALONE, Ranks, refuse_ranks
from treering.training.signals import StopSignals
from treering.training.steps import StepReport, steps

TRAINING_RECORD = ("training", 1)


def train(run: RunDirectory, progress: Progress = SILENCE, ranks: Ranks = ALONE) -> Manifest:
    """Train to the last step from wherever the run stands, and return the stage's manifest.

    Args:
        ranks: The processes that train together, each calling this with the same run; rank 0 writes.

    Raises:
        InputError: When an earlier stage has not been done, there are more ranks than micro-batches in an update, or the ranks
            do not train through the recipe's engine.
        EnvironmentMismatch: When the run was begun on another machine or with other software, this one lacks the device, or
            the ranks are not alike.
        NonFiniteError: When a loss, gradient or weight is not finite.
        IntegrityError: When what earlier stages or checkpoints left is not what was written.
        PreemptionError: When SIGTERM or SIGINT asked for an end; the work so far is kept.
        RankError: When another rank has ended.
        StorageError: When the disk is full or the run's folder cannot be written.
    """
    refuse_ranks(run.recipe.training, ranks.world_size)
    _refuse_another_engine(run, ranks)
    inputs = run.reads("tokens", "order")
    if manifest := find_training(run, inputs):
        return manifest
    set_arithmetic(run.recipe.training.threads)
    device = open_device(run.recipe.training)
    refuse_kernels(run.recipe, device)
    ranks.agree("the run", digest_value([run_digest(run.recipe), run.recipe.training.engine.model_dump(), inputs]))
    ranks.agree("the environment", digest_value(that_computes(describe_environment(run))))
    with storage_errors(run.path):
        if ranks.rank == 0:
            record_environment(run)
        _advance(run, Opening(run_digest(run.recipe), inputs), device, progress, ranks)
        if ranks.rank == 0:
            _finish(run, inputs)
        ranks.agree("the end", run_digest(run.recipe))  # and nobody leaves before all is written
    return run.verified("training")


def find_training(run: RunDirectory, inputs: dict[str, str]) -> Manifest | None:
    """Return the verified manifest of a training that is done, made from these inputs, or None where there is none yet.

    Raises:
        ManifestError: When files differ from a manifest.
        IntegrityError: When a stage was made from other inputs.
    """
    if not (run.stage("checkpoints") / MANIFEST).exists() or not run.find("checkpoints", inputs):
        return None
    return run.find("training", {**inputs, **run.reads("checkpoints")})


def _refuse_another_engine(run: RunDirectory, ranks: Ranks) -> None:
    if (wanted := run.recipe.training.engine.name) != ranks.engine_name:
        raise InputError(
            "these processes train through another engine than the recipe's",
            where=run.path,
            expected=wanted,
            found=ranks.engine_name,
            advice="open them with `training.meeting.open_ranks(recipe)`",
        )


def finished_checkpoints(run: RunDirectory) -> dict[int, str]:
    """Return step and content digest of every checkpoint of a finished run, in step order.

    Raises:
        InputError: When the run has not been trained to the end.
        IntegrityError: When a planned checkpoint is missing, one is not what its manifest says, or the moments are not kept
            where the recipe says.
    """
    run.verified("checkpoints")
    folder, planned = run.stage("checkpoints"), planned_steps(run.recipe)
    if (found := saved_steps(folder)) != list(planned):
        raise IntegrityError("the checkpoints are not those planned", where=folder, expected=planned, found=found)
    whole = [step for step in resumable_steps(run.recipe) if step > 0]
    if (kept := [step for step in planned if keeps_moments(folder / checkpoint_name(step))]) != whole:
        raise IntegrityError("the moments are not kept where planned", where=folder, expected=whole, found=kept)
    # The files of each are among those just verified.
    return {step: read_manifest(folder / checkpoint_name(step)).digest for step in planned}


def _finish(run: RunDirectory, inputs: dict[str, str]) -> None:
    run.seal(run.stage("checkpoints"), "checkpoints", inputs)
    body = describe_training(run, _follow(run, inputs))
    write_record(run.stage("training") / "training.json", *TRAINING_RECORD, body)
    run.seal(run.stage("training"), "training", {**inputs, **run.reads("checkpoints")})
    remove_tree(preempted_states(run))


def _advance(run: RunDirectory, opening: Opening, device: torch.device, progress: Progress, ranks: Ranks) -> None:
    recipe, planned = run.recipe, planned_steps(run.recipe)
    batches = open_batches(run)
    place = _place_to_resume(run)
    ranks.agree("the step to go on from", digest_value(place.name if place is not None else None))
    state = ranks.place(_load(run, place) if ranks.rank == 0 else None, device)
    history = History(run, ranks.world_size) if ranks.rank == 0 else nullcontext()
    keeper = Keeper(run, opening, place, batches) if ranks.rank == 0 else Bystander()
    with (
        StopSignals() as signals,
        history,  # entered when the ledger has been cut, left when all is written
        keeper,
        progress.task("training", recipe.training.steps, "steps") as task,
    ):
        task.advance(state.step)
        if place is None:
            keeper.begin(ranks.collect(state) if 0 in planned else None)
        for report in steps(state, batches, recipe, ranks):
            kept = report.step in planned
            keeper.update(report, ranks.collect(state) if kept else None)
            if ranks.any([signals.received])[0] and report.step < recipe.training.steps:
                keeper.preempted(None if kept else ranks.collect(state))
                ranks.agree("the step to stop at", digest_value(report.step))  # nobody leaves before all is written
                raise _preemption(run, report.step)
            _tell(task, report)


def _preemption(run: RunDirectory, step: int) -> PreemptionError:
    return PreemptionError(
        "training was told to stop, and did",
        where=run.path,
        found=f"{step} of {run.recipe.training.steps} updates done, all of them kept",
        advice="the same command goes on from there",
    )


def _place_to_resume(run: RunDirectory) -> Path | None:
    """Return the latest whole state's folder, or None where there is none yet."""
    kept, beside = run.stage("checkpoints"), preempted_states(run)
    weights_alone = set(planned_steps(run.recipe)) - set(resumable_steps(run.recipe))
    saved = [(step, kept / checkpoint_name(step)) for step in saved_steps(kept) if step not in weights_alone]
    saved += [(step, beside / checkpoint_name(step)) for step in saved_steps(beside)]
    return max(saved, key=lambda found: found[0])[1] if saved else None


def _load(run: RunDirectory, place: Path | None) -> TrainingState:
    if place is None:
        return initial_state(run.recipe.model)
    step = int(place.name.removeprefix("step"))
    return load_checkpoint(place.parent, step, run_digest(run.recipe))


def _tell(task: Task, report: StepReport) -> None:
    task.note(f"loss {report.loss_nats:.3f}")
    task.advance()


def finished_ledger(run: RunDirectory) -> list[LedgerLine]:
    """Return every line of a run's ledger, followed from the first to the last, which is of the tokens and the order listed.

    Raises:
        IntegrityError: When a line is missing, changed, or not bound to the one before.
        FormatError: When there is no ledger, it is another run's, or a manifest cannot be read.
    """
    return _follow(run, {stage: read_manifest(run.stage(stage)).digest for stage in ("tokens", "order")})


def _follow(run: RunDirectory, inputs: dict[str, str]) -> list[LedgerLine]:
    path = run.stage("training") / "ledger.jsonl"
    lines = list(read_ledger(path, Opening(run_digest(run.recipe), inputs)))
    if len(lines) != run.recipe.training.steps + 1:
        raise IntegrityError(
            "the ledger does not reach the last step", where=path, expected=run.recipe.training.steps, found=len(lines) - 1
        )
    return lines


def describe_training(run: RunDirectory, lines: Sequence[LedgerLine]) -> dict[str, Any]:
    """Return what `training.json` says of a run with this ledger."""
    reports = [line.report for line in lines if line.report is not None]
    tail = reports[-max(1, len(reports) // 10) :]
    return {
        **describe_recipe(run.recipe),
        "tokens": reports[-1].tokens,
        "first_loss_nats": reports[0].loss_nats,
        "last_loss_nats": reports[-1].loss_nats,
        "mean_loss_nats_last_tenth": sum(report.loss_nats for report in tail) / len(tail),
        "ledger_digest": lines[-1].digest,
        "engines": list(dict.fromkeys(report.engine for report in reports)),
    }


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return what `training.json` says of any run of a recipe, whatever computed its updates."""
    return {
        "steps": recipe.training.steps,
        "positions": recipe.training.steps * recipe.training.global_batch_size,
        **count_record(recipe),
        "checkpoint_steps": list(planned_steps(recipe)),
        "run_digest": run_digest(recipe),
        "optimizer": recipe.training.optimizer.name,
    }


def count_record(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's parameter counts and the floating-point operations of its whole training, for records."""
    counts = count_parameters(recipe.model)
    tokens = recipe.training.steps * recipe.training.global_batch_size * recipe.order.sequence_length
    return {
        "parameters": counts.parameters,
        "parameters_without_embeddings": counts.parameters_without_embeddings,
        "floating_point_operations": tokens * operations_per_token(recipe.model, recipe.order.sequence_length),
    }
