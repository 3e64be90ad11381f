"""Whether every file of a run is what its manifest, the ledger and the recipe say."""

from collections.abc import Callable, Iterator
from functools import partial

from treering.card.checking import check_claims
from treering.checkpoints.schedule import checkpoint_name
from treering.checkpoints.state import initial_state, weights_digest
from treering.checkpoints.store import read_checkpoint_record, split_digests
from treering.config.digests import STAGES, run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import NEOX_ORDER, Recipe
from treering.errors import EnvironmentMismatch, IntegrityError, ManifestError, TreeringError
from treering.order.neox_v1 import is_blended
from treering.provenance.canonical import read_record
from treering.provenance.manifests import MANIFEST
from treering.provenance.progress import SILENCE, Progress
from treering.training.history import history_path, read_history
from treering.training.ledger import Kept
from treering.training.run import TRAINING_RECORD, describe_training, finished_checkpoints, finished_ledger
from treering.verification.contents import check_order, check_tokens, check_updates
from treering.verification.data_sets import check_index_maps_of, check_taken_over
from treering.verification.imported import check_imported
from treering.verification.leftovers import check_card_pictures, check_card_recipe, check_form, check_leftovers
from treering.verification.revisions import check_revisions
from treering.verification.verdicts import Check, Verdict

_Look = Callable[[RunDirectory], str | None]
_HISTORY = "observe/history.jsonl"  # in no manifest: a run may be published without it


def check_files(run: RunDirectory, progress: Progress = SILENCE) -> list[Check]:
    """Look at every stage's files, the ledger, the first weights, the revisions and the card; return what was found of each.

    Of a run that GPT-NeoX trained there is no ledger: its checkpoints are compared with the record of what they were made from.
    """
    looks = list(_looks(run.recipe))
    checks = []
    with progress.task("verify", len(looks), "checks") as task:
        for name, needed, look in looks:
            checks.append(_check(run, name, needed, look))
            task.advance()
    return checks


def check_stage(run: RunDirectory, stage: str) -> Check:
    """Look at one stage's files, the form of its records, the recipe and what it was made from; return what was found."""
    return _check(run, f"{stage}: files, recipe and what it was made from", (stage,), partial(_stage, stage=stage))


def _looks(recipe: Recipe) -> Iterator[tuple[str, tuple[str, ...], _Look]]:
    yield "run: nothing in it that no manifest lists", (), check_leftovers
    for stage in STAGES:
        yield f"{stage}: files, recipe and what it was made from", (stage,), partial(_stage, stage=stage)
    if recipe.corpus.indexed:
        yield "tokens: the data sets' own, each one of the tokenizer's", ("corpus", "tokens"), check_taken_over
    else:
        yield "tokens: each document's text and tokens make each other", ("corpus", "tokens"), check_tokens
    if recipe.order.name == NEOX_ORDER:
        needed = ("corpus", "tokens", "order") if is_blended(recipe) else ("tokens", "order")
        yield "order: index maps are those of seed and documents", needed, check_index_maps_of
    else:
        yield "order: a bijection in each epoch, tiled by the batches", ("tokens", "order"), check_order
    trained = ("tokens", "order", "checkpoints", "training")
    if recipe.training.imported:
        yield "checkpoints: each is its record's, of GPT-NeoX's files", trained, check_imported
    else:
        yield "ledger: every line bound to the one before, every checkpoint to its line", trained, _ledger
        yield "history: every line bound to the one before, each at a step of the ledger", (*trained, _HISTORY), _history
        yield "ledger: every update has the recipe's rate and the order's batch", trained, _updates
        yield "step 0: the recipe's first weights", trained, _first_weights
    yield "revisions: each is its checkpoint's, byte by byte", (*trained, "revisions"), check_revisions
    yield "card: its recipe is the run's", ("card",), check_card_recipe
    yield "card: its pictures are the evaluation's", ("card", "evaluation"), check_card_pictures
    yield "card: every number follows from its record", STAGES, check_claims


def _check(run: RunDirectory, name: str, needed: tuple[str, ...], look: _Look) -> Check:
    if absent := [name for name in needed if not (run.path / (name if name == _HISTORY else f"{name}/{MANIFEST}")).exists()]:
        return Check(name, Verdict.NOT_RUN, f"{', '.join(absent)} not there")
    try:
        return Check(name, Verdict.REPRODUCED, look(run))
    except EnvironmentMismatch as error:  # the machine could not look
        return Check(name, Verdict.NOT_RUN, f"{type(error).__name__}: {error}")
    except TreeringError as error:
        return Check(name, Verdict.DIVERGED, f"{type(error).__name__}: {error}")


def _stage(run: RunDirectory, stage: str) -> None:
    manifest = run.verified(stage)
    if manifest.stage != stage:
        raise ManifestError("this is another stage's manifest", where=run.stage(stage), expected=stage, found=manifest.stage)
    check_form(run.stage(stage))
    for read, digest in manifest.reads.items():
        if read in STAGES and (run.stage(read) / MANIFEST).exists() and run.verified(read).digest != digest:
            raise IntegrityError(
                "this stage was made from another one than is there",
                where=run.stage(stage),
                expected=f"{read} with digest {digest}",
                found=run.verified(read).digest,
            )


def _ledger(run: RunDirectory) -> None:
    lines = finished_ledger(run)
    path = run.stage("training") / "training.json"
    recorded, follows = read_record(path, *TRAINING_RECORD), describe_training(run, lines)
    for name in sorted(recorded.keys() | follows.keys()):
        if recorded.get(name) != follows.get(name):
            raise IntegrityError(
                f"{name} is not what recipe and ledger say", where=path, expected=follows.get(name), found=recorded.get(name)
            )
    kept = [line for line in lines if line.checkpoint is not None]
    if (steps := [line.step for line in kept]) != list(finished_checkpoints(run)):
        raise IntegrityError("the ledger's checkpoints are not those kept", where=run.stage("checkpoints"), found=steps)
    for line in kept:
        place = run.stage("checkpoints") / checkpoint_name(line.step)
        record = read_checkpoint_record(place, run_digest(run.recipe))
        expected, found = (line.digest, line.checkpoint), (record["ledger_digest"], Kept(*split_digests(record["tensors"])))
        if found != expected:
            raise IntegrityError("this checkpoint is not the ledger's", where=place, expected=expected, found=found)


def _history(run: RunDirectory) -> None:
    lines = finished_ledger(run)
    for entry in read_history(history_path(run)):
        expected = lines[entry.step].digest if entry.step < len(lines) else None
        if entry.ledger_digest not in (None, expected):
            raise IntegrityError(
                f"the ledger that this history tells of had another line of step {entry.step}",
                where=history_path(run),
                expected=expected,
                found=entry.ledger_digest,
            )


def _updates(run: RunDirectory) -> str:
    return check_updates(run, [line.report for line in finished_ledger(run) if line.report is not None])


def _first_weights(run: RunDirectory) -> None:
    line = finished_ledger(run)[0]
    expected = weights_digest(initial_state(run.recipe.model).weights)
    if line.checkpoint is not None and line.checkpoint.weights_digest != expected:
        raise IntegrityError(
            "step 0 is not the recipe's initialisation", where=run.path, expected=expected, found=line.checkpoint.weights_digest
        )
