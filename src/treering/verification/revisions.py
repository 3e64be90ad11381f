"""Whether every revision is what recipe, tokenizer and checkpoint make, file by file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from treering.checkpoints.schedule import checkpoint_name
from treering.checkpoints.state import weights_digest
from treering.checkpoints.store import load_weights, read_checkpoint_record, saved_steps
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.errors import IntegrityError
from treering.neox.training import read_source
from treering.provenance.canonical import read_record
from treering.provenance.digests import digest_file
from treering.provenance.files import storage_errors
from treering.provenance.manifests import verify_manifest
from treering.revisions.files import cast_weights, write_settings, write_weights
from treering.revisions.records import REVISION_RECORD, read_revisions
from treering.revisions.stage import LISTED, float32_disk_bytes, name_equals
from treering.tokens.store import open_tokenizer
from treering.training.run import finished_checkpoints, finished_ledger
from treering.verification.scratch import scratch

_RECORD = "revision.json"


def check_revisions(run: RunDirectory) -> str:
    """Make each revision's files again in a scratch folder and compare them byte by byte; return how many there are.

    What the gates measured (`agreement`) and the size in memory are taken as they stand.

    Raises:
        IntegrityError: When a revision or its record is not its checkpoint's, or two have equal weights that no learning rate
            of 0 explains.
        ManifestError: When a revision's files are not those of its manifest.
        FormatError: When a record cannot be read.
        StorageError: When the scratch folder cannot be written.
    """
    folder, checkpoints = run.stage("revisions"), finished_checkpoints(run)
    trained = _trained_digests(run)
    records = [_check_revision(run, step, digest, trained.get(step)) for step, digest in checkpoints.items()]
    name_equals(run, records)
    expected = {
        "main": records[-1]["name"],
        "dtype": run.recipe.revisions.dtype,
        "float32_disk_bytes": float32_disk_bytes(run, folder / records[-1]["name"]),
        "revisions": [{key: record[key] for key in LISTED} for record in records],
    }
    _compare(folder / "revisions.json", expected, read_revisions(folder))
    return f"each of {len(records)} made again"


def _trained_digests(run: RunDirectory) -> dict[int, str]:
    """Return the digest of each kept step's weights, as the ledger has it, or the record of what was imported."""
    if run.recipe.training.imported:
        return {step: read_source(run, step)["weights_digest"] for step in saved_steps(run.stage("checkpoints"))}
    return {line.step: line.checkpoint.weights_digest for line in finished_ledger(run) if line.checkpoint is not None}


def _check_revision(run: RunDirectory, step: int, checkpoint_digest: str, trained_digest: str | None) -> dict[str, Any]:
    """Compare one revision with what its checkpoint makes, and return its record."""
    place, digest = run.stage("revisions") / checkpoint_name(step), run_digest(run.recipe)
    verify_manifest(place)
    record = read_record(place / _RECORD, *REVISION_RECORD)
    trained = load_weights(run.stage("checkpoints"), step, digest)
    published = cast_weights(trained, run.recipe.revisions.dtype, place.name)
    expected: dict[str, Any] = {
        "name": place.name,
        "step": step,
        "tokens": read_checkpoint_record(run.stage("checkpoints") / place.name, digest)["tokens"],
        "run_digest": digest,
        "checkpoint_digest": checkpoint_digest,
        "trained_digest": trained_digest,
        "weights_digest": weights_digest(published),
    }
    with scratch(run) as again, storage_errors(again):
        tokenizer = open_tokenizer(run.stage("tokens"))
        write_settings(again, run.recipe, tokenizer, tokenizer.content)
        write_weights(again, published)
        expected["files"] = {path.name: digest_file(path) for path in sorted(again.iterdir())}
        _refuse_other_files(place, again)
    _compare(place / _RECORD, expected, record)
    return record


def _refuse_other_files(place: Path, again: Path) -> None:
    names = sorted(path.name for path in again.iterdir())
    found = sorted(path.name for path in place.iterdir() if path.name not in ("manifest.json", _RECORD))
    if found != names:
        raise IntegrityError("these are not a revision's files", where=place, expected=names, found=found)
    for name in names:
        if digest_file(place / name) != digest_file(again / name):
            byte = first_differing_byte(again / name, place / name)
            raise IntegrityError(
                "this file is not what recipe, tokenizer and checkpoint make", where=place / name, found=f"from byte {byte} on"
            )


def _compare(where: Path, expected: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if record.get(name) != value:
            raise IntegrityError(f"`{name}` is not what it should be", where=where, expected=value, found=record.get(name))


def first_differing_byte(one: Path, other: Path) -> int | None:
    """Return where two files part, the shorter one's size where it only ends, or None where they are equal."""
    place = 0
    for mine, theirs in zip(_pieces(one), _pieces(other), strict=False):
        if mine != theirs:
            pairs = enumerate(zip(mine, theirs, strict=False))
            return place + next((at for at, (a, b) in pairs if a != b), min(len(mine), len(theirs)))
        place += len(mine)
    sizes = (one.stat().st_size, other.stat().st_size)
    return None if sizes[0] == sizes[1] else min(sizes)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
