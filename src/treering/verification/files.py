"""Whether every file of a run is what its manifest, the ledger and the recipe say."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from treering.card.checking import check_claims
from treering.checkpoints.schedule import checkpoint_name
from treering.checkpoints.state import initial_state, weights_digest
from treering.checkpoints.store import read_checkpoint_record, split_digests
from treering.config.digests import STAGES, run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import NEOX_ORDER, Recipe
from treering.errors import EnvironmentMismatch, IntegrityError, ManifestError, NotFetchedError, TreeringError
from treering.order.neox_v1 import is_blended
from treering.provenance.canonical import read_record
from treering.provenance.manifests import MANIFEST, read_manifest
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

_FILES = "{}: files, recipe and what it was made from"
_HISTORY = "observe/history.jsonl"  # in no manifest: a run may be published without it


class _Look(NamedTuple):
    """Something to look at: what it is called, whose manifests it takes, whose files all have to be here, and the looking."""

    name: str
    needed: tuple[str, ...]
    whole: tuple[str, ...]
    look: Callable[[RunDirectory], str | None]


def check_files(run: RunDirectory, progress: Progress = SILENCE) -> list[Check]:
    """Look at every stage's files, the ledger, the first weights, the revisions and the card; return what was found of each.

    Of a run that GPT-NeoX trained there is no ledger: its checkpoints are compared with the record of what they were made from.
    """
    looks = list(_looks(run.recipe))
    checks = []
    with progress.task("verify", len(looks), "checks") as task:
        for look in looks:
            checks.append(_check(run, look))
            task.advance()
    return checks


def check_stage(run: RunDirectory, stage: str) -> Check:
    """Look at one stage's files, the form of its records, the recipe and what it was made from; return what was found."""
    return _check(run, _Look(_FILES.format(stage), (stage,), (), partial(_stage, stage=stage)))


def _looks(recipe: Recipe) -> Iterator[_Look]:
    yield _Look("run: nothing in it that no manifest lists", (), (), check_leftovers)
    for stage in STAGES:
        yield _Look(_FILES.format(stage), (stage,), (), partial(_stage, stage=stage))
    data = ("corpus", "tokens")
    if recipe.corpus.indexed:
        yield _Look("tokens: the data sets' own, each one of the tokenizer's", data, data, check_taken_over)
    else:
        yield _Look("tokens: each document's text and tokens make each other", data, data, check_tokens)
    if recipe.order.name == NEOX_ORDER:
        needed = (*data, "order") if is_blended(recipe) else ("tokens", "order")
        yield _Look("order: index maps are those of seed and documents", needed, needed, check_index_maps_of)
    else:
        needed = ("tokens", "order")
        yield _Look("order: a bijection in each epoch, tiled by the batches", needed, needed, check_order)
    told, trained = ("tokens", "order", "training"), ("tokens", "order", "checkpoints", "training")
    if recipe.training.imported:
        yield _Look("checkpoints: each is its record's, of GPT-NeoX's files", trained, trained, check_imported)
    else:
        yield _Look("ledger: every line bound to the one before, and the record of the training its", told, (), _ledger)
        yield _Look("checkpoints: each bound to its line of the ledger", trained, ("checkpoints",), _checkpoints)
        yield _Look(
            "history: every line bound to the one before, each at a step of the ledger", (*told, _HISTORY), (), _history
        )
        yield _Look("ledger: every update has the recipe's rate and the order's batch", told, ("tokens",), _updates)
        yield _Look("step 0: the recipe's first weights", told, (), _first_weights)
    weights = ("checkpoints", "revisions")
    yield _Look("revisions: each is its checkpoint's, byte by byte", (*trained, "revisions"), weights, check_revisions)
    yield _Look("card: its recipe is the run's", ("card",), (), check_card_recipe)
    yield _Look("card: its pictures are the evaluation's", ("card", "evaluation"), ("card", "evaluation"), check_card_pictures)
    yield _Look("card: every number follows from its record", STAGES, (), check_claims)


def _check(run: RunDirectory, look: _Look) -> Check:
    places = {name: name if name == _HISTORY else f"{name}/{MANIFEST}" for name in look.needed}
    if absent := [name for name, place in places.items() if not (run.path / place).exists()]:
        return Check(look.name, Verdict.NOT_RUN, "; ".join(f"{name} {_absence(run, name)}" for name in absent))
    try:
        run.refuse_left_out(*look.whole)
        return Check(look.name, Verdict.REPRODUCED, look.look(run))
    except NotFetchedError as error:
        return Check(look.name, Verdict.NOT_RUN, f"{error.found}: not fetched")
    except EnvironmentMismatch as error:  # the machine could not look
        return Check(look.name, Verdict.NOT_RUN, f"{type(error).__name__}: {error}")
    except TreeringError as error:
        return Check(look.name, Verdict.DIVERGED, f"{type(error).__name__}: {error}")


def _absence(run: RunDirectory, name: str) -> str:
    begun = name in STAGES and run.stage(name).is_dir() and any(run.stage(name).iterdir())
    return "not finished" if begun else "not there"


def _stage(run: RunDirectory, stage: str) -> None:
    manifest = run.verified(stage)
    if manifest.stage != stage:
        raise ManifestError("this is another stage's manifest", where=run.stage(stage), expected=stage, found=manifest.stage)
    check_form(run.stage(stage))
    for read, digest in manifest.reads.items():
        if read in STAGES and (run.stage(read) / MANIFEST).exists() and read_manifest(run.stage(read)).digest != digest:
            raise IntegrityError(
                "this stage was made from another one than is there",
                where=run.stage(stage),
                expected=f"{read} with digest {digest}",
                found=read_manifest(run.stage(read)).digest,
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


def _checkpoints(run: RunDirectory) -> None:
    kept = [line for line in finished_ledger(run) if line.checkpoint is not None]
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
