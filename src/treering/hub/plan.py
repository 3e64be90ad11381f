"""What a release is on the Hub: its repositories, their branches, and the files of each; and the way back from there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from treering.config.digests import DATA
from treering.config.run_directory import RunDirectory
from treering.provenance.manifests import MANIFEST, read_manifest
from treering.revisions.branches import MAIN, branches_of

Kind = Literal["model", "dataset"]
# What a release's repositories are called after the model's name.
MODEL, DATA_SET, CHECKPOINTS = "", "-data", "-checkpoints"
KINDS: Mapping[str, Kind] = {MODEL: "model", DATA_SET: "dataset", CHECKPOINTS: "model"}
_DATA_RECORDS = {"corpus": ("corpus.json",), "tokens": ("tokens.json", "tokenizer.json"), "order": None}


@dataclass(frozen=True)
class PlannedBranch:
    """A branch and what it will hold: files of this machine by their paths there."""

    name: str
    files: Mapping[str, Path]

    @property
    def size_bytes(self) -> int:
        """The size of all its files."""
        return sum(path.stat().st_size for path in self.files.values())


@dataclass(frozen=True)
class PlannedRepository:
    """A repository and its branches, `main` last: what `main` says is there has to be there before it."""

    name: str
    kind: Kind
    branches: tuple[PlannedBranch, ...]


def plan_release(run: RunDirectory, name: str, *, data: bool, texts: bool, moments: bool) -> list[PlannedRepository]:
    """Return the repositories of a finished run's release, the model's last.

    Args:
        name: ORG/NAME of the model; the others are called after it.
        data: Whether the data order and the records of corpus and tokens are published, as a data set.
        texts: Whether documents and tokens are among them.
        moments: Whether checkpoints with AdamW's moments are published, as a repository of their own.

    Raises:
        FormatError: When a record or a manifest cannot be read.
    """
    model = tuple(PlannedBranch(branch, files) for branch, files in branches_of(run).items())
    found = [PlannedRepository(f"{name}{MODEL}", KINDS[MODEL], model)]
    if moments:
        found.insert(0, PlannedRepository(f"{name}{CHECKPOINTS}", KINDS[CHECKPOINTS], tuple(_checkpoints(run))))
    if data or texts:
        found.insert(
            0, PlannedRepository(f"{name}{DATA_SET}", KINDS[DATA_SET], (PlannedBranch(MAIN, _data(run, texts=texts)),))
        )
    return found


class Place(NamedTuple):
    """Where a file lies: in the repository of a release by its suffix, on which branch, at which path there."""

    repository: str
    branch: str
    path: str


def places_of(stage: str, path: str) -> tuple[Place, ...]:
    """Return where a file of a stage may lie, by its path in the stage's folder: there `plan_release` puts it, if anywhere."""
    step, _, rest = path.partition("/")
    record = Place(MODEL, MAIN, f"{stage}/{path}")
    if stage == "card":
        return (Place(MODEL, MAIN, path),)
    if stage == "revisions" and rest:
        return (record, Place(MODEL, step, rest))
    if stage == "checkpoints" and rest:
        return (Place(CHECKPOINTS, step, rest),)
    return (record, Place(DATA_SET, MAIN, f"{stage}/{path}")) if stage in DATA else (record,)


def _checkpoints(run: RunDirectory) -> list[PlannedBranch]:
    """Return a branch for each checkpoint, with weights and moments as training left them."""
    folder = run.stage("checkpoints")
    entries = read_manifest(folder).files
    names = sorted({Path(entry.path).parts[0] for entry in entries}, key=lambda name: int(name.removeprefix("step")))
    of_each = {name: [entry.path for entry in entries if Path(entry.path).parts[0] == name] for name in names}
    branches = [PlannedBranch(name, {Path(path).name: folder / path for path in paths}) for name, paths in of_each.items()]
    return [*branches, PlannedBranch(MAIN, {f"checkpoints/{MANIFEST}": folder / MANIFEST})]


def _data(run: RunDirectory, *, texts: bool) -> dict[str, Path]:
    """Return the data half of a run by its paths in the run: the order whole, of corpus and tokens the records alone or all."""
    found = {}
    for stage, records in _DATA_RECORDS.items():
        for entry in read_manifest(run.stage(stage)).files:
            if texts or records is None or entry.path in records:
                found[f"{stage}/{entry.path}"] = run.stage(stage) / entry.path
        found[f"{stage}/{MANIFEST}"] = run.stage(stage) / MANIFEST
    return found
