"""Making corpus, tokens and order again from the recipe's sources."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from treering.config.digests import DATA
from treering.config.run_directory import RunDirectory
from treering.corpus.stage import prepare_corpus
from treering.errors import EnvironmentMismatch, InputError, IntegrityError, TreeringError
from treering.order.stage import prepare_order
from treering.provenance.canonical import read_record
from treering.provenance.environment import describe_software
from treering.provenance.manifests import MANIFEST, FileEntry, read_manifest
from treering.provenance.progress import SILENCE, Progress
from treering.tokens.stage import prepare_tokens
from treering.verification.revisions import first_differing_byte
from treering.verification.scratch import scratch
from treering.verification.verdicts import Check, Verdict

_PUBLISHED = ("checkpoints", "training")
_SHOWN = 5


@contextmanager
def remade(run: RunDirectory, progress: Progress = SILENCE) -> Iterator[RunDirectory]:
    """Give the same run with its data made again from the sources, in a folder on the run's disk that goes at the end.

    It takes as much room as the published corpus and tokens. Checkpoints and training are the run's own.

    Raises:
        InputError: When a source is not there or cannot be read as declared, or another process is at work on the run.
        IntegrityError: When a source is not what the recipe says of it.
        StorageError: When the disk is full or the run's folder cannot be written.
    """
    with scratch(run) as folder:
        again = RunDirectory(folder, run.recipe)
        for stage in (prepare_corpus, prepare_tokens, prepare_order):
            stage(again, progress)
        for name in _PUBLISHED:
            again.stage(name).symlink_to(run.stage(name).resolve())
        yield again


@contextmanager
def with_data(run: RunDirectory, progress: Progress = SILENCE) -> Iterator[RunDirectory]:
    """Give the run as it is, or, where tokens or order are not in it, with its data made again and found to be the ledger's.

    Raises:
        IntegrityError: When what was made is not what the training read; and as for `remade`.
        InputError, StorageError: As for `remade`.
    """
    if all((run.stage(name) / MANIFEST).exists() and not run.left_out(name) for name in ("tokens", "order")):
        yield run
        return
    with remade(run, progress) as again:
        if found := list(_differences(run, again)):
            raise IntegrityError("the data made again is not what was trained on", where=run.path, found="; ".join(found))
        yield again


def verify_data(run: RunDirectory, progress: Progress = SILENCE) -> Check:
    """Make the data again, and return whether every file came out as the manifests say; `not run` where the sources are absent.

    Where the recorded encoder is another one than here, tokens that differ decide nothing, and the verdict is `not run`.
    """
    name = "data: corpus, tokens and order made again from their sources"
    try:
        with remade(run, progress) as again:
            found = list(_differences(run, again))
    except (InputError, EnvironmentMismatch) as error:
        return Check(name, Verdict.NOT_RUN, f"{type(error).__name__}: {error}")
    except TreeringError as error:
        return Check(name, Verdict.DIVERGED, f"{type(error).__name__}: {error}")
    if not found:
        return Check(name, Verdict.REPRODUCED)
    shown = "; ".join(found[:_SHOWN]) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    if (software := _other_encoder(run)) and not any(line.startswith("corpus/") for line in found):
        return Check(name, Verdict.NOT_RUN, f"{shown}; but {software}")
    return Check(name, Verdict.DIVERGED, shown)


def _differences(run: RunDirectory, again: RunDirectory) -> Iterator[str]:
    reads = dict(read_manifest(run.stage("training")).reads) if (run.stage("training") / MANIFEST).exists() else {}
    for stage in DATA:
        made = read_manifest(again.stage(stage))
        if (run.stage(stage) / MANIFEST).exists():
            yield from _of_stage(stage, run.stage(stage), again.stage(stage))
        if stage in reads and reads[stage] != made.digest:
            yield f"{stage}: {reads[stage]} trained on, {made.digest} made here"


def _of_stage(stage: str, published: Path, again: Path) -> Iterator[str]:
    theirs, ours = (_by_path(read_manifest(folder).files) for folder in (published, again))
    for path in sorted(theirs.keys() | ours.keys()):
        if path not in ours or path not in theirs:
            yield f"{stage}/{path} is {'published' if path in theirs else 'made here'} only"
        elif theirs[path] != ours[path]:
            byte = first_differing_byte(published / path, again / path) if (published / path).exists() else None
            yield f"{stage}/{path} differs" + ("" if byte is None else f" from byte {byte} on")


def _by_path(files: tuple[FileEntry, ...]) -> dict[str, FileEntry]:
    return {entry.path: entry for entry in files}


def _other_encoder(run: RunDirectory) -> str | None:
    """Return how the recorded version of `tokenizers` differs from the one here, or None where it is the same or unrecorded."""
    path = run.stage("training") / "environment.json"
    if not path.exists() or run.recipe.corpus.indexed:  # of tokens that were taken over no encoder is to blame
        return None
    recorded, here = read_record(path, "environment", 1)["software"], describe_software()
    if recorded.get("tokenizers") == here.get("tokenizers"):
        return None
    return f"tokenizers {recorded.get('tokenizers')} made them, here is {here.get('tokenizers')}"
