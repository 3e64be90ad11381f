"""Consuming the loop: metrics and checkpoints as the steps come, from wherever the run stands."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from treering.checkpoints.schedule import checkpoint_name, planned_steps
from treering.checkpoints.state import TrainingState, initial_state
from treering.checkpoints.store import load_checkpoint, save_checkpoint, saved_steps
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.errors import EnvironmentMismatch, IntegrityError
from treering.model.shapes import count_parameters, operations_per_token
from treering.order.batches import Batches
from treering.order.stage import open_batches
from treering.provenance.canonical import canonical_json, read_record, write_record
from treering.provenance.environment import describe_machine, describe_software
from treering.provenance.files import storage_errors
from treering.provenance.manifests import MANIFEST, Manifest, read_manifest
from treering.provenance.progress import SILENCE, Progress, Task
from treering.training.determinism import describe_arithmetic, open_device, set_arithmetic
from treering.training.metrics import MetricsFile, read_metrics
from treering.training.steps import StepReport, steps

_ENVIRONMENT = ("environment", 1)
# Of the software recorded, what computes weights; the rest is for the reader.
_SOFTWARE_THAT_COMPUTES = ("treering", "python", "numpy", "torch")


def train(run: RunDirectory, progress: Progress = SILENCE) -> Manifest:
    """Train to the last step from wherever the run stands, and return the stage's manifest.

    Raises:
        EnvironmentMismatch: When the run was begun on another machine or with other software, or this one lacks the device.
        NonFiniteError: When a loss, gradient or weight is not finite.
        IntegrityError: When what earlier stages or checkpoints left is not what was written.
        StorageError: When the disk is full or the run's folder cannot be written.
    """
    inputs = run.reads("tokens", "order")
    if (run.stage("checkpoints") / MANIFEST).exists() and run.find("checkpoints", inputs):
        reads = {**inputs, **run.reads("checkpoints")}
        if manifest := run.find("training", reads):
            return manifest
    set_arithmetic(run.recipe.training.threads)
    device = open_device(run.recipe.training)
    with storage_errors(run.path):
        _record_environment(run)
        _advance(run, open_batches(run), device, progress)
        run.seal(run.stage("checkpoints"), "checkpoints", inputs)
        _record_training(run)
        return run.seal(run.stage("training"), "training", {**inputs, **run.reads("checkpoints")})


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


def _advance(run: RunDirectory, batches: Batches, device: torch.device, progress: Progress) -> None:
    recipe, planned = run.recipe, planned_steps(run.recipe.checkpoints, run.recipe.training.steps)
    state = _resume(run).to(device)
    with (
        closing(MetricsFile(run.stage("training") / "metrics.jsonl", state.step)) as metrics,
        _Observed(run.observe / "training.jsonl", recipe.observe.log_every) as observed,
        progress.task("training", recipe.training.steps, "steps") as task,
    ):
        task.advance(state.step)
        if state.step == 0 and 0 in planned:
            _save(run, state, batches)
        for report in steps(state, batches, recipe):
            metrics.append(report)
            if report.step in planned:
                metrics.sync()
                _save(run, state, batches)
            observed.append(report)
            _tell(task, report)


def _resume(run: RunDirectory) -> TrainingState:
    saved = saved_steps(run.stage("checkpoints"))
    if not saved:
        return initial_state(run.recipe.model)
    return load_checkpoint(run.stage("checkpoints"), saved[-1], run_digest(run.recipe))


def _save(run: RunDirectory, state: TrainingState, batches: Batches) -> None:
    tokens = state.step * batches.global_batch_size * batches.sequence_length
    save_checkpoint(run.stage("checkpoints"), state, run_digest(run.recipe), tokens)


def _tell(task: Task, report: StepReport) -> None:
    task.note(f"loss {report.loss_nats:.3f}")
    task.advance()


class _Observed:
    """Times of this process, in `observe/`: what was watched and is in no digest."""

    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every, self._start = path, every, time.monotonic()

    def __enter__(self) -> "_Observed":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, report: StepReport) -> None:
        if report.step % self._every == 0:
            elapsed = time.monotonic() - self._start
            self._file.write(canonical_json({"step": report.step, "elapsed_seconds": elapsed}) + b"\n")


def _record_environment(run: RunDirectory) -> None:
    path = run.stage("training") / "environment.json"
    found = {
        "software": describe_software(),
        "machine": describe_machine(),
        "arithmetic": describe_arithmetic(run.recipe.training),
    }
    if not path.exists():
        write_record(path, *_ENVIRONMENT, found)
        return
    recorded = read_record(path, *_ENVIRONMENT)
    before, here = _that_computes(recorded), _that_computes(found)
    differing = [f"{name}: {before.get(name)} ≠ {here.get(name)}" for name in here if before.get(name) != here[name]]
    if differing:
        raise EnvironmentMismatch(
            "this run was begun in another environment, and going on in this one could change bits",
            where=run.path,
            expected=f"the environment in {path}",
            found="(recorded ≠ here) " + "; ".join(differing),
            advice="go on where it was begun, or train anew under another name",
        )


def _that_computes(environment: dict[str, Any]) -> dict[str, Any]:
    software = {name: environment["software"].get(name) for name in _SOFTWARE_THAT_COMPUTES}
    return {**software, **environment["machine"], **environment["arithmetic"]}


def _record_training(run: RunDirectory) -> None:
    recipe, reports = run.recipe, read_metrics(run.stage("training") / "metrics.jsonl")
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
