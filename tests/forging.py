"""Forgeries: states and numbers put into a run with ledger, bindings, records and manifests all made to fit them."""

import shutil
from collections.abc import Mapping

from treering.checkpoints.schedule import resumable_steps
from treering.checkpoints.state import TrainingState, without_moments
from treering.checkpoints.store import digest_tensors, load_checkpoint, save_checkpoint, split_digests
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.provenance.canonical import write_record
from treering.training.ledger import Kept, Ledger, Opening, read_ledger
from treering.training.run import TRAINING_RECORD, describe_training
from treering.training.steps import StepReport


def reseal(run: RunDirectory) -> None:
    """Write the manifests anew, as a forger would."""
    inputs = run.reads("tokens", "order")
    run.seal(run.stage("checkpoints"), "checkpoints", inputs)
    run.seal(run.stage("training"), "training", {**inputs, **run.reads("checkpoints")})


def keeps_moments_at(run: RunDirectory, step: int) -> bool:
    """Return whether a step's checkpoint has a file of moments."""
    return step > 0 and step in resumable_steps(run.recipe)


def forge(run: RunDirectory, states: Mapping[int, TrainingState], reports: Mapping[int, StepReport] | None = None) -> None:
    """Put states in the place of checkpoints, and numbers in the place of updates', each by its step."""
    folder, digest = run.stage("checkpoints"), run_digest(run.recipe)
    opening = Opening(digest, run.reads("tokens", "order"))
    path = run.stage("training") / "ledger.jsonl"
    lines = list(read_ledger(path, opening))
    whole = {line.step: load_checkpoint(folder, line.step, digest) for line in lines if line.checkpoint} | dict(states)
    ledger = Ledger(path, opening, 0, None)
    for line in lines:
        kept = Kept(*split_digests(digest_tensors(whole[line.step]))) if line.step in whole else None
        report = (reports or {}).get(line.step, line.report)
        ledger.begin(kept) if report is None else ledger.append(report, kept)
        if line.step in whole:
            shutil.rmtree(folder / f"step{line.step}")  # what is there may not be replaced by something else
            put = whole[line.step] if keeps_moments_at(run, line.step) else without_moments(whole[line.step])
            digests = digest_tensors(whole[line.step])
            save_checkpoint(folder, put, digest, line.step * 8 * 32, ledger.digest, digests)
    ledger.close()
    write_record(
        run.stage("training") / "training.json", *TRAINING_RECORD, describe_training(run, list(read_ledger(path, opening)))
    )
    reseal(run)
