"""Whether a run that GPT-NeoX trained holds what its checkpoints held."""

from treering.checkpoints.schedule import checkpoint_name
from treering.checkpoints.store import read_checkpoint_record, saved_steps, split_digests
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.errors import IntegrityError, TreeringError
from treering.neox.training import compare_with_source, describe_imported, read_source, refuse_odd_sources
from treering.provenance.canonical import read_record
from treering.provenance.manifests import MANIFEST
from treering.provenance.progress import SILENCE, Progress
from treering.training.run import TRAINING_RECORD, finished_checkpoints
from treering.verification.verdicts import Check, Verdict


def check_imported(run: RunDirectory) -> str:
    """Compare each checkpoint with the record of what it was made from, and the training's record with the recipe.

    Raises:
        IntegrityError: When one is another, or not all that were planned are there.
        FormatError: When a record cannot be read.
    """
    path = run.stage("training") / "training.json"
    recorded, follows = read_record(path, *TRAINING_RECORD), describe_imported(run)
    if {name: value for name, value in recorded.items() if name != "compared"} != follows:
        raise IntegrityError("this is not what the recipe says", where=path, expected=follows, found=recorded)
    refuse_odd_sources(run)
    checkpoints = finished_checkpoints(run)
    for step in checkpoints:
        place = run.stage("checkpoints") / checkpoint_name(step)
        record = read_checkpoint_record(place, run_digest(run.recipe))
        tokens = step * run.recipe.training.global_batch_size * run.recipe.order.sequence_length
        expected = (step, read_source(run, step)["weights_digest"], tokens)
        if (found := (read_source(run, step)["step"], split_digests(record["tensors"])[0], record["tokens"])) != expected:
            raise IntegrityError("this checkpoint is not its record's", where=place, expected=expected, found=found)
    return f"{len(checkpoints)} checkpoints"


def verify_imported(run: RunDirectory, progress: Progress = SILENCE) -> Check:
    """Read GPT-NeoX's checkpoints again, and return whether their weights are the run's; `not run` where they are absent."""
    name = "checkpoints: read again from GPT-NeoX's files"
    if missing := [stage for stage in ("checkpoints", "training") if not (run.stage(stage) / MANIFEST).exists()]:
        return Check(name, Verdict.NOT_RUN, f"{', '.join(missing)} not there")
    checkpoints, found, absent = saved_steps(run.stage("checkpoints")), list[str](), 0
    with progress.task("GPT-NeoX's checkpoints", len(checkpoints), "checkpoints") as task:
        for step in checkpoints:
            try:
                absent += not compare_with_source(run, step)
            except TreeringError as error:
                found.append(f"{type(error).__name__}: {error}")
            task.advance()
    if found:
        return Check(name, Verdict.DIVERGED, "; ".join(found[:5]))
    if absent:
        return Check(name, Verdict.NOT_RUN, f"{absent} of {len(checkpoints)} are not there")
    return Check(name, Verdict.REPRODUCED, f"{len(checkpoints)} checkpoints")
