"""A GPT-NeoX run's training as a run's own: its checkpoints imported, with which files each was made from."""

from pathlib import Path
from typing import Any

from torch import Tensor

from treering.checkpoints.schedule import checkpoint_name, planned_steps
from treering.checkpoints.state import TrainingState, weights_digest
from treering.checkpoints.store import save_checkpoint, saved_steps
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import ImportedEngine
from treering.errors import InputError, IntegrityError
from treering.neox.checkpoints import checkpoint_steps, iteration_of, read_neox_weights
from treering.neox.comparing import compare_run
from treering.provenance.canonical import read_record, write_record
from treering.provenance.digests import digest_file
from treering.provenance.environment import describe_machine, describe_software
from treering.provenance.files import storage_errors
from treering.provenance.manifests import Manifest
from treering.provenance.progress import SILENCE, Progress
from treering.training.ranks import ALONE, Ranks
from treering.training.run import TRAINING_RECORD, describe_recipe, find_training

SOURCE_RECORD = ("imported-checkpoint", 1)
_ENGINE = "GPT-NeoX"


def import_training(run: RunDirectory, progress: Progress = SILENCE, ranks: Ranks = ALONE) -> Manifest:
    """Make `checkpoints/` and `training/` of a run that GPT-NeoX trained, and return the latter's manifest.

    A checkpoint has the weights alone. What an interrupted call finished is kept, and its files are compared again.

    Args:
        ranks: One process: there is nothing for more.

    Raises:
        InputError: When the checkpoints are not there, or not those that the recipe names; when there are several processes.
        FormatError: When a checkpoint cannot be read.
        NonFiniteError: When a weight is not finite.
        IntegrityError: When a checkpoint says it was saved after another update, or is of other files than the one imported;
            when what GPT-NeoX says of the run (its configuration, its index maps) is not what the recipe says.
        StorageError: When the disk is full or the run's folder cannot be written.
    """
    if ranks.world_size > 1:
        raise InputError("checkpoints are imported by one process", found=f"{ranks.world_size} of them")
    inputs = run.reads("tokens", "order")
    if manifest := find_training(run, inputs):
        return manifest
    folders = _folders(run)
    compared = compare_run(run, list(folders.values())[-1])
    with storage_errors(run.path), progress.task("checkpoints", len(folders), "checkpoints") as task:
        for step, folder in folders.items():
            task.note(folder.name)
            _import_checkpoint(run, step, folder)
            task.advance()
        run.seal(run.stage("checkpoints"), "checkpoints", inputs)
        training = run.stage("training")
        here = {"software": describe_software(), "machine": describe_machine()}
        write_record(training / "environment.json", "environment", 1, here)
        write_record(training / "training.json", *TRAINING_RECORD, {**describe_imported(run), "compared": compared})
        run.seal(training, "training", {**inputs, **run.reads("checkpoints")})
    return run.verified("training")


def describe_imported(run: RunDirectory) -> dict[str, Any]:
    """Return what `training.json` says of a run that GPT-NeoX trained, but what of it was compared.

    Nothing of losses, which are in no checkpoint.
    """
    recipe = run.recipe
    tokens = recipe.training.steps * recipe.training.global_batch_size * recipe.order.sequence_length
    return {**describe_recipe(recipe), "tokens": tokens, "engines": [_ENGINE]}


def read_source(run: RunDirectory, step: int) -> dict[str, Any]:
    """Return the record of what a checkpoint was made from: `files` with their digests, `iteration`, `weights_digest`.

    Raises:
        FormatError: When there is none, or of another version.
    """
    return read_record(_source_path(run, step), *SOURCE_RECORD)


def refuse_odd_sources(run: RunDirectory) -> None:
    """Do nothing where there is a record of what each checkpoint was made from, and of nothing else.

    Raises:
        IntegrityError: When one is missing or too many, names no files, or says that it is of another step.
        FormatError: When one cannot be read.
    """
    folder, steps = run.stage("training") / "imported", saved_steps(run.stage("checkpoints"))
    expected = sorted(f"{checkpoint_name(step)}.json" for step in steps)
    if (found := sorted(path.name for path in folder.iterdir())) != expected:
        raise IntegrityError("these are not the records of the checkpoints", where=folder, expected=expected, found=found)
    for step in steps:
        record = read_source(run, step)
        if record["step"] != step or record["iteration"] not in (None, step) or not record["files"]:
            said = {name: record[name] for name in ("step", "iteration", "files")}
            raise IntegrityError("this record is of another step", where=_source_path(run, step), expected=step, found=said)


def compare_with_source(run: RunDirectory, step: int) -> bool:
    """Return whether all of GPT-NeoX's files of a step are there, and are those that its checkpoint was made from.

    Raises:
        IntegrityError: When they are others, or the weights in them are.
        FormatError: When a file cannot be read.
    """
    folder, record = _save(run) / f"global_step{step}", read_source(run, step)
    if not all((folder / name).exists() for name in record["files"]):
        return False
    _refuse_other_files(folder, record)
    if (found := weights_digest(_weights(run, folder))) != record["weights_digest"]:
        raise IntegrityError(
            "the weights are not those of GPT-NeoX's files", where=folder, expected=record["weights_digest"], found=found
        )
    return True


def _import_checkpoint(run: RunDirectory, step: int, folder: Path) -> None:
    path, digest = _source_path(run, step), run_digest(run.recipe)
    if path.exists() and step in saved_steps(run.stage("checkpoints")):
        _refuse_other_files(folder, read_source(run, step))
        return
    if (said := iteration_of(folder)) not in (None, step):
        raise IntegrityError("this checkpoint was saved after another update", where=folder, expected=step, found=said)
    files, weights = _digests(folder), _weights(run, folder)
    body = {"step": step, "iteration": said, "files": files, "weights_digest": weights_digest(weights)}
    write_record(path, *SOURCE_RECORD, body)
    tokens = step * run.recipe.training.global_batch_size * run.recipe.order.sequence_length
    save_checkpoint(run.stage("checkpoints"), TrainingState(step, weights, {}, {}), digest, tokens)


def _weights(run: RunDirectory, folder: Path) -> dict[str, Tensor]:
    """Return a checkpoint's weights in fp32, as every checkpoint of a run has them; of fp16 and bf16 this is exact."""
    return {name: tensor.float() for name, tensor in read_neox_weights(folder, run.recipe.model).items()}


def _folders(run: RunDirectory) -> dict[int, Path]:
    """Return where each planned step's checkpoint lies, and refuse a folder that holds others."""
    folders, planned = checkpoint_steps(_save(run)), planned_steps(run.recipe)
    if list(folders) != list(planned):
        missing, more = (sorted(a - b) for a, b in ((set(planned), folders.keys()), (folders.keys(), set(planned))))
        found = "; ".join(
            f"{what} {', '.join(map(str, steps[:8]))}{' …' if len(steps) > 8 else ''}"
            for what, steps in (("without", missing), ("with", more))
            if steps
        )
        raise InputError(
            "the checkpoints are not those of the recipe",
            where=_save(run),
            expected=f"global_stepN for the {len(planned)} steps that `checkpoints` and training.steps name",
            found=f"{len(folders)} of them, {found}",
            advice="name the steps there are in the recipe's `checkpoints: {at: [...], every: N}`; `treering show` lists them",
        )
    return folders


def _save(run: RunDirectory) -> Path:
    engine = run.recipe.training.engine
    if not isinstance(engine, ImportedEngine):
        raise InputError("this recipe's updates are not GPT-NeoX's", where=run.path, expected="training.engine.name gpt-neox")
    return Path(engine.checkpoints)


def _source_path(run: RunDirectory, step: int) -> Path:
    return run.stage("training") / "imported" / f"{checkpoint_name(step)}.json"


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: digest_file(path) for path in sorted(folder.glob("*model_states.pt")) if path.is_file()}


def _refuse_other_files(folder: Path, record: dict[str, Any]) -> None:
    if (found := _digests(folder)) != record["files"]:
        odd = sorted(name for name in found.keys() | record["files"].keys() if found.get(name) != record["files"].get(name))
        raise IntegrityError(
            "these are not the files that the checkpoint was made from",
            where=folder / odd[0],
            expected=record["files"].get(odd[0]),
            found=found.get(odd[0]),
            advice="restore them; or give the recipe another name, which begins a new run",
        )
