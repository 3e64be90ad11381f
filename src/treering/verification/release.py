"""All that is looked at when a run is verified, and the records of it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from treering.checkpoints.schedule import checkpoint_name, planned_steps
from treering.config.run_directory import RunDirectory
from treering.provenance.progress import SILENCE, Progress
from treering.verification.data import verify_data, with_data
from treering.verification.files import check_files
from treering.verification.imported import verify_imported
from treering.verification.rerun import verify_segment
from treering.verification.sampling import Wanted, within_budget
from treering.verification.segments import Segment
from treering.verification.verdicts import Check, Verdict, write_checks


def verify(run: RunDirectory, wanted: Wanted, progress: Progress = SILENCE) -> dict[str, Any]:
    """Check a run's files and re-run what is wanted of its training; return all checks, each also in a record of its own.

    Returns:
        `files`, `data` and `segments`, lists of checks; `seed`, None where it picked nothing; `passed_over`, the segments for
        which the time was too short.

    Raises:
        InputError: When a segment is not in the run, or the run has not been trained.
        IntegrityError: When what a segment begins with is not what its digests say.
        EnvironmentMismatch: When this machine lacks the recipe's device.
        StorageError: When a record cannot be written.
    """
    wanted.refuse_absent(run)  # before anything long begins
    files = write_checks(run, "files", check_files(run, progress))["checks"]
    data = write_checks(run, "data", _again(run, progress))["checks"] if wanted.data else []
    chosen = wanted.choose(run)
    done: list[Check] = []
    if chosen:
        with with_data(run, progress) as whole:
            done.extend(_rerun(run, whole, wanted, chosen, progress))
    names = {check.name for check in done}
    return {
        "files": files,
        "data": data,
        "segments": [asdict(check) for check in done],
        "seed": wanted.seed if wanted.picks else None,
        "passed_over": [str(segment) for segment in chosen if segment.name not in names],
    }


def _not_fetched(run: RunDirectory, segment: Segment) -> Check | None:
    """Return why a segment cannot be re-run here: a checkpoint of it was left out when the run was fetched."""
    names = {checkpoint_name(step) for step in planned_steps(run.recipe) if segment.start <= step <= segment.stop}
    absent = names.intersection(Path(path).parts[0] for path in run.left_out("checkpoints"))
    found = f"not fetched: {', '.join(sorted(absent))}; treering fetch --segment {segment}"
    return Check(segment.name, Verdict.NOT_RUN, found) if absent else None


def _again(run: RunDirectory, progress: Progress) -> list[Check]:
    imported = [verify_imported(run, progress)] if run.recipe.training.imported else []
    return [verify_data(run, progress), *imported]


def _rerun(
    run: RunDirectory, whole: RunDirectory, wanted: Wanted, chosen: list[Segment], progress: Progress
) -> Iterator[Check]:
    def rerun(segment: Segment) -> Check:
        check = _not_fetched(run, segment) or verify_segment(whole, segment, progress)
        write_checks(run, f"segment-{segment.start}-{segment.stop}", [check], start=segment.start, stop=segment.stop)
        return check

    if wanted.budget_seconds is None:
        yield from map(rerun, chosen)
    else:
        yield from within_budget(wanted.budget_seconds, chosen, run.recipe, rerun)
