"""What a release is on the Hub: its repositories, their branches, and the files of each; and the way back from there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from treering.config.digests import DATA, STAGES
from treering.config.run_directory import RunDirectory
from treering.errors import ManifestError
from treering.hub.companions import checkpoints_card, data_card
from treering.provenance.digests import digest_bytes, digest_file
from treering.provenance.manifests import MANIFEST, FileEntry, read_manifest
from treering.revisions.branches import MAIN, branches_of

Kind = Literal["model", "dataset"]
CARD = "README.md"
# What a release's repositories are called after the model's name.
MODEL, DATA_SET, CHECKPOINTS = "", "-data", "-checkpoints"
KINDS: Mapping[str, Kind] = {MODEL: "model", DATA_SET: "dataset", CHECKPOINTS: "model"}
_DATA_RECORDS = {"corpus": ("corpus.json",), "tokens": ("tokens.json", "tokenizer.json"), "order": None}


@dataclass(frozen=True)
class PlannedFile:
    """A file as it will be published: where it lies or its bytes, and what it has to be, whatever becomes of it meanwhile."""

    content: Path | bytes
    size_bytes: int
    digest: str

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            ManifestError: When they are no longer those that were planned.
        """
        content = self.content if isinstance(self.content, bytes) else self.content.read_bytes()
        if (found := digest_bytes(content)) != self.digest:
            where = self.content if isinstance(self.content, Path) else None
            raise ManifestError("this file changed while it was published", where=where, expected=self.digest, found=found)
        return content


@dataclass(frozen=True)
class PlannedBranch:
    """A branch and what it will hold: files by their paths there."""

    name: str
    files: Mapping[str, PlannedFile]

    @property
    def size_bytes(self) -> int:
        """The size of all its files."""
        return sum(file.size_bytes for file in self.files.values())


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
    listed = _listed(run)
    model = tuple(_branch(branch, files, listed) for branch, files in branches_of(run).items())
    found = [PlannedRepository(f"{name}{MODEL}", KINDS[MODEL], model)]
    if moments:
        card = {CARD: _written(checkpoints_card(run.recipe, name))}
        branches = (*_checkpoints(run, listed), _branch(MAIN, {f"checkpoints/{MANIFEST}": _manifest(run)}, listed, card))
        found.insert(0, PlannedRepository(f"{name}{CHECKPOINTS}", KINDS[CHECKPOINTS], branches))
    if data or texts:
        card = {CARD: _written(data_card(run.recipe, name, texts=texts))}
        found.insert(
            0, PlannedRepository(f"{name}{DATA_SET}", KINDS[DATA_SET], (_branch(MAIN, _data(run, texts=texts), listed, card),))
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


def _listed(run: RunDirectory) -> dict[Path, FileEntry]:
    """Return what the manifests of all stages list, by where it lies."""
    return {run.stage(stage) / entry.path: entry for stage in STAGES for entry in read_manifest(run.stage(stage)).files}


def _branch(
    name: str, files: Mapping[str, Path], listed: Mapping[Path, FileEntry], more: Mapping[str, PlannedFile] | None = None
) -> PlannedBranch:
    return PlannedBranch(name, {path: _planned(file, listed.get(file)) for path, file in files.items()} | dict(more or {}))


def _planned(path: Path, entry: FileEntry | None) -> PlannedFile:
    """Return a file as its manifest lists it; what no manifest lists, such as a manifest, as it is now."""
    if entry is None:
        return PlannedFile(path, path.stat().st_size, digest_file(path))
    return PlannedFile(path, entry.size_bytes, entry.digest)


def _written(text: str) -> PlannedFile:
    content = text.encode()
    return PlannedFile(content, len(content), digest_bytes(content))


def _manifest(run: RunDirectory) -> Path:
    return run.stage("checkpoints") / MANIFEST


def _checkpoints(run: RunDirectory, listed: Mapping[Path, FileEntry]) -> Iterator[PlannedBranch]:
    """Yield a branch for each checkpoint, with weights and moments as training left them."""
    folder = run.stage("checkpoints")
    entries = read_manifest(folder).files
    names = sorted({Path(entry.path).parts[0] for entry in entries}, key=lambda name: int(name.removeprefix("step")))
    for name in names:
        paths = [entry.path for entry in entries if Path(entry.path).parts[0] == name]
        yield _branch(name, {Path(path).name: folder / path for path in paths}, listed)


def _data(run: RunDirectory, *, texts: bool) -> dict[str, Path]:
    """Return the data half of a run by its paths in the run: the order whole, of corpus and tokens the records alone or all."""
    found = {}
    for stage, records in _DATA_RECORDS.items():
        for entry in read_manifest(run.stage(stage)).files:
            if texts or records is None or entry.path in records:
                found[f"{stage}/{entry.path}"] = run.stage(stage) / entry.path
        found[f"{stage}/{MANIFEST}"] = run.stage(stage) / MANIFEST
    return found
