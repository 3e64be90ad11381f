"""What lies on each branch of a release: a revision on its own, on `main` the last one with the card and the records."""

from pathlib import Path

from treering.config.digests import STAGES
from treering.config.run_directory import RunDirectory
from treering.errors import FormatError
from treering.provenance.canonical import read_record
from treering.provenance.manifests import MANIFEST, read_manifest
from treering.revisions.records import read_revisions

MAIN = "main"
_ALL = ("training", "evaluation")
# Of the others: what stands for it, not what it is of; texts, tokens and weights are large, or on branches of their own.
_RECORDS = {
    "corpus": ("corpus.json",),
    "tokens": ("tokens.json", "tokenizer.json"),
    "order": ("order.json",),
    "checkpoints": (),
    "revisions": ("revisions.json", "revision.json", MANIFEST),
}


def branches_of(run: RunDirectory) -> dict[str, dict[str, Path]]:
    """Return the files of each branch of a finished run's release, by their paths there: revisions in step order, then `main`.

    Raises:
        FormatError: When a record or a manifest cannot be read, or the claims name a file outside the run.
    """
    record = read_revisions(run.stage("revisions"))
    names = [revision["name"] for revision in record["revisions"]]
    branches = {name: _files(run.stage("revisions") / name) for name in names}
    main = branches[record["main"]] | _records(run) | _evidence(run) | _files(run.stage("card"))
    return {**branches, MAIN: main}


def lies_on_main(stage: str, path: str) -> bool:
    """Return whether a file of a stage below the card lies on `main`, under its path in the run, whatever the card names."""
    return stage in _ALL or Path(path).name in _RECORDS.get(stage, ())


def _files(folder: Path) -> dict[str, Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path for path in found}


def _records(run: RunDirectory) -> dict[str, Path]:
    """Return the records and manifests of all stages, by their paths in the run."""
    found = {}
    for stage in STAGES:
        for entry in read_manifest(run.stage(stage)).files if stage != "card" else ():
            if lies_on_main(stage, entry.path):
                found[f"{stage}/{entry.path}"] = run.stage(stage) / entry.path
        found[f"{stage}/{MANIFEST}"] = run.stage(stage) / MANIFEST
    return found


def _evidence(run: RunDirectory) -> dict[str, Path]:
    """Return the records that the card's claims follow from, by their paths in the run.

    Raises:
        FormatError: When the claims name a file outside the run.
    """
    claims = read_record(run.stage("card") / "claims.json", "claims", 1)["claims"]
    names = sorted({str(evidence["record"]) for claim in claims for evidence in claim["evidence"]})
    root = run.path.resolve()
    if outside := [name for name in names if not (root / name).resolve().is_relative_to(root)]:
        raise FormatError("the claims name a file outside the run", where=run.stage("card") / "claims.json", found=outside[0])
    return {name: run.path / name for name in names}
